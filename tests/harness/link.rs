//! A link between two network namespaces that drops, duplicates and reorders from a seed.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    net::Ipv4Addr,
    os::fd::AsRawFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result, anyhow, ensure};

use crate::{conversation::Random, namespace::Namespace};

/// Name of the device in both namespaces.
const DEVICE: &str = "lossy0";

/// How long the forwarder waits for packets before it lets go of one that it held back.
const HOLD_MILLISECONDS: libc::c_int = 3;

/// How often packets suffer, each in thousandths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Never arrive.
    pub dropped: u64,
    /// Arrive twice.
    pub duplicated: u64,
    /// Arrive after the next one.
    pub reordered: u64,
}

/// What happened to packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Suffered {
    /// Packets that entered the link.
    pub packets: u64,
    /// Packets by fault.
    pub faults: Faults,
}

/// A point-to-point link through a forwarder in this process.
#[derive(Debug)]
pub struct Link {
    left: Namespace,
    right: Namespace,
    ending: Arc<AtomicBool>,
    forwarder: Option<JoinHandle<Result<Suffered>>>,
}

/// One direction.
struct Lane {
    random: Random,
    faults: Faults,
    held: Option<Vec<u8>>,
}

/// Opens a TUN device in `namespace`. Only the opening has to happen there.
fn open_device(namespace: &Namespace) -> Result<File> {
    namespace.within(|| {
        let mut options = OpenOptions::new();
        let device = options.read(true).write(true).open("/dev/net/tun");
        let device = device.context("open /dev/net/tun")?;
        // SAFETY: all zeros is a valid ifreq.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        for (place, byte) in request.ifr_name.iter_mut().zip(DEVICE.bytes()) {
            *place = byte as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        // SAFETY: the request lives as long as the call and names a device.
        let made = unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        ensure!(
            made == 0,
            "make a TUN device: {}",
            io::Error::last_os_error()
        );
        Ok(device)
    })
}

fn forward(mut ends: [File; 2], mut lanes: [Lane; 2], ending: &AtomicBool) -> Result<Suffered> {
    let mut suffered = Suffered::default();
    let mut buffer = vec![0; 65536];
    while !ending.load(Ordering::Relaxed) {
        let mut polled = ends.each_ref().map(|end| libc::pollfd {
            fd: end.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: the pointer and the count describe `polled`.
        let ready = unsafe { libc::poll(polled.as_mut_ptr(), 2, HOLD_MILLISECONDS) };
        for from in 0..2 {
            let to = 1 - from;
            if polled[from].revents & libc::POLLIN != 0 {
                let length = ends[from].read(&mut buffer).context("read a packet")?;
                for packet in lanes[from].pass(&buffer[..length], &mut suffered) {
                    send(&mut ends[to], &packet)?;
                }
            } else if ready == 0
                && let Some(packet) = lanes[from].held.take()
            {
                send(&mut ends[to], &packet)?;
            }
        }
    }
    Ok(suffered)
}

fn send(end: &mut File, packet: &[u8]) -> Result<()> {
    match end.write(packet) {
        Ok(_) => Ok(()),
        // The device is down or its namespace is going: the packet is lost, as on a real link.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EIO | libc::EINVAL)) => Ok(()),
        Err(error) => Err(error).context("write a packet"),
    }
}

// === impl Link ===

impl Link {
    /// Addresses of the two ends.
    pub const LEFT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
    /// See [`Self::LEFT`].
    pub const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

    /// A link with `faults` in both directions, drawn from `seed`.
    pub fn create(seed: u64, faults: Faults) -> Result<Self> {
        let left = Namespace::create("left")?;
        let right = Namespace::create("right")?;
        let ends = [open_device(&left)?, open_device(&right)?];
        for (namespace, own, other) in [
            (&left, Self::LEFT, Self::RIGHT),
            (&right, Self::RIGHT, Self::LEFT),
        ] {
            let (own, other) = (format!("{own}/32"), format!("{other}/32"));
            namespace.run("ip", &["addr", "add", &own, "peer", &other, "dev", DEVICE])?;
            namespace.run("ip", &["link", "set", DEVICE, "up"])?;
            // Losses are meant; long waits after them are not.
            namespace.run(
                "ip",
                &["route", "change", &other, "dev", DEVICE, "rto_min", "20ms"],
            )?;
        }
        let lane = |number| Lane {
            random: Random::new(seed + number),
            faults,
            held: None,
        };
        let lanes = [lane(1), lane(2)];
        let ending = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&ending);
        let forwarder = thread::Builder::new()
            .name("lossy link".to_owned())
            .spawn(move || forward(ends, lanes, &flag))
            .context("start the forwarder")?;
        Ok(Self {
            left,
            right,
            ending,
            forwarder: Some(forwarder),
        })
    }

    /// The namespace of [`Self::LEFT`].
    pub fn left(&self) -> &Namespace {
        &self.left
    }

    /// The namespace of [`Self::RIGHT`].
    pub fn right(&self) -> &Namespace {
        &self.right
    }

    /// Takes the link down and tells what it did.
    pub fn finish(mut self) -> Result<Suffered> {
        self.join()
            .unwrap_or_else(|| Err(anyhow!("the forwarder has ended before")))
    }

    fn join(&mut self) -> Option<Result<Suffered>> {
        self.ending.store(true, Ordering::Relaxed);
        let joined = self.forwarder.take()?.join();
        Some(joined.unwrap_or_else(|_| Err(anyhow!("the forwarder died"))))
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.join() {
            eprintln!("lossy link: {error:#}");
        }
    }
}

// === impl Lane ===

impl Lane {
    /// The packets that leave when `packet` enters.
    fn pass(&mut self, packet: &[u8], suffered: &mut Suffered) -> Vec<Vec<u8>> {
        suffered.packets += 1;
        let drawn = self.random.below(1000);
        let mut leaving = Vec::new();
        let Faults {
            dropped,
            duplicated,
            reordered,
        } = self.faults;
        if drawn < dropped {
            suffered.faults.dropped += 1;
        } else if drawn < dropped + duplicated {
            suffered.faults.duplicated += 1;
            leaving.extend([packet.to_vec(), packet.to_vec()]);
        } else if drawn < dropped + duplicated + reordered && self.held.is_none() {
            suffered.faults.reordered += 1;
            self.held = Some(packet.to_vec());
            return leaving;
        } else {
            leaving.push(packet.to_vec());
        }
        leaving.extend(self.held.take());
        leaving
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(seed: u64, faults: Faults) -> (Vec<Vec<u8>>, Suffered) {
        let mut lane = Lane {
            random: Random::new(seed),
            faults,
            held: None,
        };
        let mut suffered = Suffered::default();
        let packets = (0..=255)
            .flat_map(|byte| lane.pass(&[byte], &mut suffered))
            .collect();
        (packets, suffered)
    }

    #[test]
    fn a_seed_decides_what_packets_suffer() {
        let faults = Faults {
            dropped: 100,
            duplicated: 100,
            reordered: 100,
        };
        let (packets, suffered) = run(3, faults);
        assert_eq!(run(3, faults), (packets.clone(), suffered));
        assert_ne!(run(4, faults).0, packets);
        let Faults {
            dropped,
            duplicated,
            reordered,
        } = suffered.faults;
        assert!(
            dropped > 5 && duplicated > 5 && reordered > 5,
            "{suffered:?}"
        );
        let whole = run(3, Faults::default()).0;
        assert_eq!(whole, (0..=255).map(|byte| vec![byte]).collect::<Vec<_>>());
    }
}
