//! Kernel to bytes: loads and attaches the programs, drains the ring buffer.
//!
//! The only user of aya. Everything it attaches is a link that the kernel drops when this process
//! ends, however it ends: nothing is pinned.

mod clock;
mod datagrams;
mod error;
pub mod object;
mod ring;
mod slots;
mod threads;

use std::{
    fs::File,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{Array, MapData, PerCpuArray, Queue, RingBuf},
    programs::{CgroupAttachMode, CgroupSkbAttachType, Program},
};
use observer_ebpf::{
    abi::{DatagramFlow, DatagramKey, Settings, Slot},
    counters,
};

use crate::telemetry::health::{Loss, ProgramCost};

pub use clock::{now, wall_offset};
pub use error::CaptureError;
pub use slots::Slots;

use error::{first_line, load_error, program_error};

/// What to capture, and how much room it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Directory of the cgroup v2 below which sockets are observed.
    pub cgroup: PathBuf,
    /// Size of the ring buffer in bytes, a power of two and a multiple of the page size.
    pub ring_bytes: u32,
    /// Connections that can be looked at while they live; more are observed without that.
    pub max_connections: u32,
    /// Peers of UDP sockets that are counted at once; the kernel forgets those that are quiet for
    /// longest when there are more.
    pub max_datagram_flows: u32,
    /// Ports whose connections are not observed, at most 32.
    pub ignored_ports: Vec<u16>,
    /// Whether threads are looked at, to tell which request caused which.
    pub causes: bool,
}

/// Something that was attached, or that this kernel lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the program.
    pub program: &'static str,
    /// What it gives.
    pub gives: &'static str,
    /// Why it is missing; `None` when it is attached.
    pub missing: Option<String>,
}

/// The attached programs and their maps. Dropping it detaches everything.
pub struct Capture {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    waiter: ring::Waiter,
    slots: Slots,
    datagrams: datagrams::Datagrams,
    free_slots: Queue<MapData, u32>,
    counters: PerCpuArray<MapData, u64>,
    settings: Array<MapData, PodSettings>,
    attachments: Vec<Attachment>,
    ring_bytes: u32,
    records: u64,
    highest: u64,
}

/// [`Settings`] for aya.
#[repr(transparent)]
#[derive(Clone, Copy)]
struct PodSettings(Settings);

// SAFETY: `Settings` is `repr(C)`, has no padding (its size is asserted) and any bits are valid.
unsafe impl Pod for PodSettings {}

/// The programs, in the order in which they are attached: state first, then packets.
const PROGRAMS: [(&str, &str, bool); 5] = [
    ("observer_create", "the process that made a socket", false),
    (
        "observer_release",
        "whether the application let go of a socket first",
        false,
    ),
    (
        "observer_connection",
        "connections opened, failed and closed",
        true,
    ),
    ("observer_ingress", "bytes received", true),
    ("observer_egress", "bytes sent", true),
];

/// What to try when a program does not load, and costs less than doing without.
fn instead(program: &str) -> Option<&'static str> {
    // The thread's name is read from /proc then, if the process lives that long.
    (program == "observer_create").then_some("observer_create_unnamed")
}

// === impl Config ===

impl Config {
    fn settings(&self) -> Settings {
        let mut settings = Settings {
            wakeup_bytes: self.ring_bytes / 4,
            ..Settings::default()
        };
        for (slot, port) in settings.ignored_ports.iter_mut().zip(&self.ignored_ports) {
            *slot = *port;
            settings.ignored_count += 1;
        }
        settings
    }
}

// === impl Capture ===

impl Capture {
    /// Loads the programs into the kernel and attaches them to the cgroup.
    ///
    /// # Errors
    ///
    /// [`CaptureError`] says what is missing and what to do. Programs without which the core
    /// still works are noted in [`Capture::attachments`] instead.
    pub fn attach(config: &Config) -> Result<Self, CaptureError> {
        let object = object::embedded().map_err(CaptureError::NotBuilt)?;
        let cgroup = open_cgroup(&config.cgroup)?;
        let mut loader = EbpfLoader::new();
        loader
            .map_max_entries("EVENTS", config.ring_bytes)
            .map_max_entries("SLOTS", config.max_connections)
            .map_max_entries("FREE_SLOTS", config.max_connections)
            .map_max_entries("DATAGRAMS", config.max_datagram_flows);
        if !config.causes {
            loader
                .map_max_entries("THREADS", 1)
                .map_max_entries("PROCESSES", 1);
        }
        let mut ebpf = loader.load(object).map_err(load_error)?;

        let mut settings: Array<_, PodSettings> = take(&mut ebpf, "SETTINGS")?;
        settings
            .set(0, PodSettings(config.settings()), 0)
            .map_err(|error| CaptureError::Load(error.into()))?;
        let counters = take(&mut ebpf, "COUNTERS")?;
        let mut free_slots: Queue<_, u32> = take(&mut ebpf, "FREE_SLOTS")?;
        for index in 0..config.max_connections {
            free_slots
                .push(index, 0)
                .map_err(|error| CaptureError::Load(error.into()))?;
        }
        let slots = ebpf
            .take_map("SLOTS")
            .ok_or_else(|| CaptureError::Load(anyhow::anyhow!("the object has no map SLOTS")))?;
        let slots = Slots::map(&slots, config.max_connections)
            .map_err(|error| CaptureError::Load(anyhow::Error::new(error).context("map SLOTS")))?;
        let datagrams = ebpf.take_map("DATAGRAMS").ok_or_else(|| {
            CaptureError::Load(anyhow::anyhow!("the object has no map DATAGRAMS"))
        })?;
        let datagrams = datagrams::Datagrams::new(datagrams).map_err(|error| {
            CaptureError::Load(anyhow::Error::new(error).context("map DATAGRAMS"))
        })?;
        let ring: RingBuf<MapData> = take(&mut ebpf, "EVENTS")?;
        let waiter = ring::Waiter::new(&ring).map_err(|error| CaptureError::Load(error.into()))?;

        // First all are loaded: that takes a second, in which those that are attached already would
        // fill the ring buffer, and see one direction only.
        let mut loaded = Vec::new();
        for (program, gives, required) in PROGRAMS {
            let (found, result) = match (load_program(&mut ebpf, program), instead(program)) {
                (Err(_), Some(other)) => (other, load_program(&mut ebpf, other)),
                (result, _) => (program, result),
            };
            loaded.push((program, found, gives, required, result));
        }
        let mut attachments = Vec::new();
        if config.causes {
            // Before the others: what is read and written of a connection is counted from its start.
            attachments.extend(threads::attach(&mut ebpf));
        }
        for (program, found, gives, required, result) in loaded {
            let attached = result.and_then(|()| attach_program(&mut ebpf, found, &cgroup));
            let missing = match attached {
                Ok(()) => None,
                Err(error) if required => return Err(error),
                Err(error) => {
                    tracing::debug!(program, %error, "not attached");
                    Some(first_line(&error))
                }
            };
            attachments.push(Attachment {
                program,
                gives,
                missing,
            });
        }
        Ok(Self {
            ebpf,
            ring,
            waiter,
            slots,
            datagrams,
            free_slots,
            counters,
            settings,
            attachments,
            ring_bytes: config.ring_bytes,
            records: 0,
            highest: 0,
        })
    }

    /// What was attached, and what this kernel lacks.
    pub fn attachments(&self) -> &[Attachment] {
        &self.attachments
    }

    /// Sleeps until the ring buffer fills up, the kernel asks for attention, or `timeout`.
    pub fn wait(&mut self, timeout: Duration) {
        self.waiter.wait(timeout);
    }

    /// Hands up to `limit` records to `each`, oldest first; returns how many there were.
    pub fn drain(&mut self, limit: usize, mut each: impl FnMut(&[u8])) -> usize {
        let mut count = 0;
        let mut bytes = 0;
        while count < limit {
            let Some(record) = self.ring.next() else {
                break;
            };
            bytes += record.len() as u64 + RECORD_OVERHEAD;
            each(&record);
            count += 1;
        }
        self.records += count as u64;
        self.highest = self.highest.max(bytes);
        count
    }

    /// The live connections.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Gives back the slot of a connection that ended.
    pub fn free_slot(&mut self, index: u32) {
        if self.slots.clear(index) {
            // The queue has room for every slot, so this cannot fail but for a kernel error, and
            // then one slot fewer is all that is lost.
            if let Err(error) = self.free_slots.push(index, 0) {
                tracing::debug!(index, %error, "cannot give back a slot");
            }
        }
    }

    /// Hands what the kernel has counted of every peer of UDP sockets, DNS aside, to `each`.
    ///
    /// # Errors
    ///
    /// When the kernel does not let the map be read; some entries may have been handed on.
    pub fn datagrams(&mut self, each: impl FnMut(&DatagramKey, &DatagramFlow)) -> io::Result<()> {
        self.datagrams.each(each)
    }

    /// Peers of UDP sockets that the kernel has begun to count since start.
    pub fn datagram_flows(&self) -> u64 {
        self.counter(counters::DATAGRAM_FLOWS.index)
    }

    /// Forgets a peer of a UDP socket; what passes from now on is counted anew.
    pub fn forget_datagrams(&mut self, cookie: u64, remote: SocketAddr) {
        self.datagrams.forget(cookie, remote);
    }

    /// Changes what may change without attaching anew.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the new settings; the old ones stay.
    pub fn reconfigure(&mut self, config: &Config) -> Result<(), CaptureError> {
        self.settings
            .set(0, PodSettings(config.settings()), 0)
            .map_err(|error| CaptureError::Load(error.into()))
    }

    /// Most bytes that one drain found in the ring buffer since this was last asked.
    pub fn take_highest_fill(&mut self) -> u64 {
        std::mem::take(&mut self.highest)
    }

    /// Records read so far.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Size of the ring buffer, bytes.
    pub fn ring_bytes(&self) -> u64 {
        self.ring_bytes.into()
    }

    /// Everything that the kernel side lost, and how often; also what it never lost.
    pub fn losses(&self) -> Vec<Loss> {
        let mut losses = Vec::with_capacity(counters::ALL.len());
        for counter in counters::ALL {
            if counters::IS_LOSS[counter.index as usize] {
                losses.push(Loss {
                    stage: "kernel",
                    reason: counter.name,
                    count: self.counter(counter.index),
                });
            }
        }
        losses
    }

    /// Value of a kernel counter, all CPUs together.
    pub fn counter(&self, index: u32) -> u64 {
        self.counters
            .get(&index, 0)
            .map(|values| values.iter().sum())
            .unwrap_or(0)
    }

    /// Run count and time of each program; time only with `kernel.bpf_stats_enabled`.
    pub fn costs(&self) -> Vec<ProgramCost> {
        let names = PROGRAMS.iter().map(|(name, _, _)| *name);
        let mut costs = Vec::new();
        for name in names.chain(threads::NAMES) {
            let Some(program) = self.ebpf.program(name) else {
                continue;
            };
            let Ok(info) = program.info() else { continue };
            costs.push(ProgramCost {
                name: name.to_owned(),
                runs: info.run_count(),
                nanoseconds: u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
            });
        }
        costs
    }
}

/// Loads the programs and lets them go: whether the core would work here.
///
/// # Errors
///
/// What [`Capture::attach`] would say.
pub fn check(cgroup: &Path) -> Result<Vec<Attachment>, CaptureError> {
    let capture = Capture::attach(&Config {
        cgroup: cgroup.to_owned(),
        ring_bytes: 64 << 10,
        max_connections: 16,
        max_datagram_flows: 128,
        ignored_ports: Vec::new(),
        causes: true,
    })?;
    Ok(capture.attachments.clone())
}

fn open_cgroup(path: &Path) -> Result<File, CaptureError> {
    let error = |source| CaptureError::Cgroup {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(error)?;
    // Every cgroup v2 directory has this file, but for the root, which lacks `cgroup.type`.
    match path.join("cgroup.procs").try_exists() {
        Ok(true) => Ok(file),
        Ok(false) => Err(error(io::Error::other("it is not a cgroup v2 directory"))),
        Err(source) => Err(error(source)),
    }
}

fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, CaptureError>
where
    M: TryFrom<aya::maps::Map>,
    M::Error: std::error::Error + Send + Sync + 'static,
{
    let map = ebpf
        .take_map(name)
        .ok_or_else(|| CaptureError::Load(anyhow::anyhow!("the object has no map {name}")))?;
    M::try_from(map).map_err(|error| CaptureError::Load(error.into()))
}

fn program_mut<'a>(
    ebpf: &'a mut Ebpf,
    program: &'static str,
) -> Result<&'a mut Program, CaptureError> {
    ebpf.program_mut(program)
        .ok_or_else(|| CaptureError::Load(anyhow::anyhow!("the object has no program {program}")))
}

fn load_program(ebpf: &mut Ebpf, program: &'static str) -> Result<(), CaptureError> {
    let started = std::time::Instant::now();
    let found = program_mut(ebpf, program)?;
    let result = match found {
        Program::CgroupSkb(skb) => skb.load(),
        Program::CgroupSock(sock) => sock.load(),
        Program::SockOps(ops) => ops.load(),
        _ => return Err(unexpected(program)),
    };
    result.map_err(|error| program_error("load", program, error))?;
    tracing::debug!(
        program,
        milliseconds = started.elapsed().as_millis(),
        instructions = found
            .info()
            .ok()
            .and_then(|info| info.verified_instruction_count()),
        "verified"
    );
    Ok(())
}

fn attach_program(
    ebpf: &mut Ebpf,
    program: &'static str,
    cgroup: &File,
) -> Result<(), CaptureError> {
    // `Single` is right on the link path: a link may always stand beside others, and the kernel
    // refuses the flag that says so.
    let mode = CgroupAttachMode::Single;
    let result = match program_mut(ebpf, program)? {
        Program::CgroupSkb(skb) => {
            let attach_type = if program == "observer_ingress" {
                CgroupSkbAttachType::Ingress
            } else {
                CgroupSkbAttachType::Egress
            };
            skb.attach(cgroup, attach_type, mode).map(|_| ())
        }
        Program::CgroupSock(sock) => sock.attach(cgroup, mode).map(|_| ()),
        Program::SockOps(ops) => ops.attach(cgroup, mode).map(|_| ()),
        _ => return Err(unexpected(program)),
    };
    result.map_err(|error| program_error("attach", program, error))
}

fn unexpected(program: &'static str) -> CaptureError {
    CaptureError::Load(anyhow::anyhow!(
        "the program {program} is of an unexpected kind"
    ))
}

/// What the ring buffer adds to a record (`BPF_RINGBUF_HDR_SZ`).
const RECORD_OVERHEAD: u64 = 8;

/// Bytes of a [`Slot`], for the memory map.
const SLOT_BYTES: usize = size_of::<Slot>();
