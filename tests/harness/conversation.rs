//! Two raw sockets that talk in turns, so that each byte and each segment is known.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context, Result, ensure};

use crate::place::{self, Handshake, Place};

/// Longest piece that is surely taken by the socket buffers before anybody reads.
const PIECE: usize = 32 * 1024;

/// Where to cut bytes into segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cut {
    /// As few segments as the sockets make.
    #[default]
    Whole,
    /// Two segments, the first of this many bytes.
    At(usize),
    /// A segment for every byte.
    EveryByte,
    /// Segments of 1 to 64 bytes, drawn from a seed.
    Seeded(u64),
}

/// A connection with both ends in hand. Who writes waits until the other end has read it all.
#[derive(Debug)]
pub struct Conversation {
    /// The end that has connected.
    pub client: TcpStream,
    /// The end that was accepted.
    pub server: TcpStream,
}

/// Marsaglia's xorshift64: the same numbers for the same seed.
#[derive(Clone, Debug)]
pub struct Random(u64);

/// Writes `bytes` to `from`, cut as told, and checks that they arrive at `to`.
fn carry(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8], cut: Cut) -> Result<()> {
    let mut random = match cut {
        Cut::Seeded(seed) => Random::new(seed),
        _ => Random::new(1),
    };
    let mut rest = bytes;
    let mut first = true;
    let mut buffer = vec![0; PIECE];
    while !rest.is_empty() {
        let length = match cut {
            Cut::At(length) if first => length.max(1),
            Cut::Whole | Cut::At(_) => PIECE,
            Cut::EveryByte => 1,
            Cut::Seeded(_) => 1 + random.below(64) as usize,
        };
        first = false;
        let (piece, after) = rest.split_at(length.min(rest.len()).min(PIECE));
        from.write_all(piece).context("write")?;
        let buffer = &mut buffer[..piece.len()];
        to.read_exact(buffer)
            .context("read what the other end wrote")?;
        ensure!(buffer == piece, "other bytes arrived than were sent");
        rest = after;
    }
    Ok(())
}

/// Checks that the peer of `stream` has ended its direction.
fn expect_end(stream: &mut TcpStream) -> Result<()> {
    let mut byte = [0];
    let length = stream.read(&mut byte).context("read the end")?;
    ensure!(length == 0, "a byte came instead of the end");
    Ok(())
}

// === impl Random ===

impl Random {
    /// A generator; a seed of 0 counts as 1.
    pub fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// The next number, below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }
}

// === impl Conversation ===

impl Conversation {
    /// A connection at 127.0.0.1.
    pub fn open(place: &Place<'_>) -> Result<Self> {
        let listener = place.listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        Self::accept(place, &listener, Handshake::Plain)
    }

    /// A connection of `place` to `listener`.
    pub fn accept(place: &Place<'_>, listener: &TcpListener, handshake: Handshake) -> Result<Self> {
        let client = place.connect_by(listener.local_addr()?, handshake)?;
        let (server, _) = listener.accept().context("accept")?;
        Ok(Self {
            client,
            server: place::prepare(server)?,
        })
    }

    /// A connection whose first bytes arrive with the end of the handshake.
    pub fn open_with_data(place: &Place<'_>, bytes: &[u8]) -> Result<Self> {
        let listener = place.listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let mut client = place.connect_by(listener.local_addr()?, Handshake::WithData)?;
        client
            .write_all(bytes)
            .context("write with the handshake")?;
        let (server, _) = listener.accept().context("accept")?;
        let mut server = place::prepare(server)?;
        let mut arrived = vec![0; bytes.len()];
        server
            .read_exact(&mut arrived)
            .context("read what came with the handshake")?;
        ensure!(arrived == bytes, "other bytes arrived than were sent");
        Ok(Self { client, server })
    }

    /// Ports of the client's and the server's end.
    pub fn ports(&self) -> Result<(u16, u16)> {
        Ok((
            self.client.local_addr()?.port(),
            self.server.local_addr()?.port(),
        ))
    }

    /// The client sends `bytes`.
    pub fn ask(&mut self, bytes: &[u8], cut: Cut) -> Result<()> {
        carry(&mut self.client, &mut self.server, bytes, cut)
    }

    /// The server sends `bytes`.
    pub fn answer(&mut self, bytes: &[u8], cut: Cut) -> Result<()> {
        carry(&mut self.server, &mut self.client, bytes, cut)
    }

    /// The client sends FIN and still listens.
    pub fn client_finishes(&mut self) -> Result<()> {
        self.client.shutdown(Shutdown::Write)?;
        expect_end(&mut self.server)
    }

    /// The server sends FIN and still listens.
    pub fn server_finishes(&mut self) -> Result<()> {
        self.server.shutdown(Shutdown::Write)?;
        expect_end(&mut self.client)
    }

    /// The client closes first, then the server.
    pub fn close_by_client(mut self) -> Result<()> {
        self.client_finishes()?;
        self.server_finishes()
    }

    /// The server closes first, then the client.
    pub fn close_by_server(mut self) -> Result<()> {
        self.server_finishes()?;
        self.client_finishes()
    }

    /// The client resets the connection.
    pub fn reset_by_client(self) -> Result<()> {
        let Self { client, mut server } = self;
        place::reset_on_close(&client)?;
        drop(client);
        expect_reset(&mut server)
    }

    /// The server resets the connection.
    pub fn reset_by_server(self) -> Result<()> {
        let Self { mut client, server } = self;
        place::reset_on_close(&server)?;
        drop(server);
        expect_reset(&mut client)
    }
}

fn expect_reset(stream: &mut TcpStream) -> Result<()> {
    let error = stream
        .read(&mut [0])
        .err()
        .context("no error after a reset")?;
    let kind = error.kind();
    ensure!(
        kind == std::io::ErrorKind::ConnectionReset,
        "{error} instead of a reset"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_draws_the_same_numbers() {
        let draw = |seed| {
            let mut random = Random::new(seed);
            (0..100).map(|_| random.below(64)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert!(draw(7).iter().all(|number| *number < 64));
    }
}
