//! What listens on the machine's own loopback, reached from within nodes at the same address.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use anyhow::{Context, Result};
use observer_tests::namespace::Namespace;

/// Makes `address` of the machine's loopback answer in `namespace` too, until the test ends.
pub(crate) fn forward(namespace: &Namespace, address: SocketAddr) -> Result<()> {
    let listener = namespace.within(|| {
        TcpListener::bind(address).with_context(|| format!("listen on {address} in a node"))
    })?;
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            // Who finds nobody there is closed, as by the one who is not there.
            let Ok(far) = TcpStream::connect(address) else {
                continue;
            };
            let copies = near
                .try_clone()
                .and_then(|near| Ok((near, far.try_clone()?)));
            let Ok((near_copy, far_copy)) = copies else {
                continue;
            };
            thread::spawn(move || copy(near, far));
            thread::spawn(move || copy(far_copy, near_copy));
        }
    });
    Ok(())
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let copied = io::copy(&mut from, &mut to);
    // An end is passed on as an end, a break as a break.
    let how = if copied.is_ok() {
        Shutdown::Write
    } else {
        Shutdown::Both
    };
    let _ = to.shutdown(how);
    if copied.is_err() {
        let _ = from.shutdown(Shutdown::Both);
    }
}
