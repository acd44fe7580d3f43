//! The observer's own state as plain numbers, taken once per snapshot.

/// Something that was lost, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Stage that lost it: `kernel`, `decode`, `assemble`, `host`, `enrich`, `aggregate`, `serve`,
    /// `export`.
    pub stage: &'static str,
    /// Why, as a label value.
    pub reason: &'static str,
    /// How often, since start.
    pub count: u64,
}

/// Run count and time of one BPF program, where the kernel offers them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProgramCost {
    /// Name of the program.
    pub name: String,
    /// Times it ran since it was loaded.
    pub runs: u64,
    /// Nanoseconds it ran; 0 unless `kernel.bpf_stats_enabled` is set.
    pub nanoseconds: u64,
}

/// How full a bounded table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Name of the table.
    pub name: &'static str,
    /// Entries in use.
    pub entries: u64,
    /// Most entries it can have.
    pub limit: u64,
}

/// What is known of one kind of Kubernetes object, from one source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClusterState {
    /// Where it comes from: `api`, `hub`.
    pub source: &'static str,
    /// Kind of object, as a label value: `pods`, `services`.
    pub kind: &'static str,
    /// All objects there were at the start are known, and changes arrive.
    pub synced: bool,
    /// Time since the source was last heard of, seconds; `None` before the first time.
    pub age_seconds: Option<f64>,
    /// Objects known.
    pub objects: u64,
    /// Requests made to the source, since start.
    pub requests: u64,
    /// Requests that failed and streams that broke, since start, by reason.
    pub errors: Vec<(&'static str, u64)>,
}

/// What became of the telemetry of one signal. Items are spans, data points or log records; counts
/// are since start.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExportState {
    /// Which: `traces`, `metrics`, `logs`.
    pub signal: &'static str,
    /// Where it goes, without path and credentials; empty when it was turned off.
    pub destination: String,
    /// `grpc` or `http/protobuf`; empty when it was turned off.
    pub protocol: &'static str,
    /// Items that wait.
    pub queued_items: u64,
    /// Bytes that they hold, about.
    pub queued_bytes: u64,
    /// Items that the collector took.
    pub sent: u64,
    /// Items that the collector did not want, of requests that it took.
    pub rejected: u64,
    /// Items that were lost in any other way; `Loss` has the reasons.
    pub dropped: u64,
    /// Requests, each attempt.
    pub requests: u64,
    /// Of these, those that were not taken.
    pub failures: u64,
    /// Of these, those that were made again.
    pub retries: u64,
    /// Bytes of bodies as they were sent.
    pub request_bytes: u64,
    /// Time that requests took.
    pub request_seconds: f64,
    /// Time since the last request that was taken, seconds; `None` before the first.
    pub age_seconds: Option<f64>,
    /// Why the last request was not taken; `None` when it was.
    pub error: Option<String>,
}

/// The observer's own state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Health {
    /// Everything lost, by stage and reason; also those that are zero.
    pub losses: Vec<Loss>,
    /// The BPF programs.
    pub programs: Vec<ProgramCost>,
    /// Bounded tables.
    pub tables: Vec<Table>,
    /// Records read from the ring buffer.
    pub records: u64,
    /// Bytes waiting in the ring buffer when last looked at, at their highest since the last
    /// snapshot.
    pub ring_used_bytes: u64,
    /// Size of the ring buffer, bytes.
    pub ring_size_bytes: u64,
    /// CPU time of this process, user and system, seconds.
    pub cpu_seconds: f64,
    /// Resident memory of this process, bytes.
    pub resident_bytes: u64,
    /// Start of this process, seconds since the Unix epoch.
    pub start_unix_seconds: f64,
    /// What is known of Kubernetes, by source and kind; empty outside.
    pub cluster: Vec<ClusterState>,
    /// What became of telemetry that is sent, by signal; empty where none is.
    pub export: Vec<ExportState>,
}
