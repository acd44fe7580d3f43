//! What a hub knows, encoded once for all agents: the objects, a revision, and a log of deltas.

mod snapshot;

use std::{collections::VecDeque, mem};

use hashbrown::{HashMap, HashSet};
use prost::bytes::Bytes;

use super::{
    codec,
    message::{self, Batch, Content},
};
use crate::{
    cluster::object::{Change, Kind, Subject},
    model::policy::{PolicyChange, PolicyKind},
    telemetry::health::{Loss, Table},
};

pub use snapshot::{Collected, Snapshot};

/// Bounds of a [`Store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most objects.
    pub objects: usize,
    /// Most bytes of one object, encoded.
    pub object_bytes: usize,
    /// Most deltas that are kept.
    pub log_entries: usize,
    /// Most bytes of deltas that are kept, as they are sent.
    pub log_bytes: usize,
    /// Most changes in one delta; more become several.
    pub delta_changes: usize,
}

/// The state of a hub: no clock, no lock, no I/O.
#[derive(Debug)]
pub struct Store {
    limits: Limits,
    epoch: u64,
    revision: u64,
    /// By [`Subject::index`].
    kinds: [Objects; Subject::COUNT],
    objects: usize,
    object_bytes: usize,
    /// What changed since the last revision, in order of the first change, and once each.
    pending: Vec<Pending>,
    is_pending: HashSet<Pending>,
    /// Deltas up to `revision`, one each.
    log: VecDeque<Bytes>,
    log_bytes: usize,
    /// Bytes of all deltas there ever were.
    written: u64,
    counts: Counts,
}

/// What follows a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// These frames, after which this revision is known.
    Deltas(Vec<Bytes>, u64),
    /// Nothing yet.
    UpToDate,
    /// What nobody has any more, or never had: a snapshot is needed.
    Gone,
}

/// What agents are to be told of.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Pending {
    /// An object, or that it is gone.
    Object(Subject, Box<str>),
    /// All objects of a kind, which was not told before; or that there is nothing of it.
    Whole(Subject),
}

/// The objects of one kind.
#[derive(Debug, Default)]
struct Objects {
    by_uid: HashMap<Box<str>, Entry>,
    /// Counts the times that all objects are told; even between them.
    round: u32,
    synced: bool,
    /// It is known that there are none, and why.
    absent: bool,
}

#[derive(Debug)]
struct Entry {
    encoded: Bytes,
    /// When it was set last.
    round: u32,
}

/// What happened, since start.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    unchanged: u64,
    changed: u64,
    too_many: u64,
    too_large: u64,
    malformed: u64,
}

/// Bytes of a delta from where on it is closed: far below what a frame can have.
const DELTA_BYTES: usize = 256 << 10;

/// Removals take a few bytes more than the uid.
const MAX_UID: usize = 256;

// === impl Limits ===

impl Default for Limits {
    fn default() -> Self {
        Self {
            objects: 1_000_000,
            object_bytes: 256 << 10,
            log_entries: 8_192,
            log_bytes: 16 << 20,
            delta_changes: 1_000,
        }
    }
}

// === impl Store ===

impl Store {
    /// An empty store; nobody may ever have used `epoch` before.
    pub fn new(epoch: u64, limits: Limits) -> Self {
        Self {
            limits: Limits {
                // A frame takes what one object takes, and what is before the last of them.
                object_bytes: limits
                    .object_bytes
                    .min(codec::MAX_MESSAGE - 2 * DELTA_BYTES),
                delta_changes: limits.delta_changes.clamp(1, codec::MAX_CHANGES),
                ..limits
            },
            epoch,
            // 0 is what agents know that know nothing.
            revision: 1,
            kinds: std::array::from_fn(|_| Objects::default()),
            objects: 0,
            object_bytes: 0,
            pending: Vec::new(),
            is_pending: HashSet::new(),
            log: VecDeque::new(),
            log_bytes: 0,
            written: 0,
            counts: Counts::default(),
        }
    }

    /// Takes a change of the watch.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Begin(kind) => self.begin(Subject::Kind(kind)),
            Change::Set(object) => {
                let encoded = message::encode_object(&object);
                self.set(Subject::Kind(object.kind()), object.uid(), encoded);
            }
            Change::Remove(kind, uid) => self.remove(Subject::Kind(kind), &uid),
            Change::Complete(kind) => self.complete(Subject::Kind(kind)),
            Change::Declared(change) => match change {
                PolicyChange::Begin(kind) => self.begin(Subject::Policy(kind)),
                PolicyChange::Set(object) => {
                    let encoded = message::encode_policy(&object);
                    self.set(Subject::Policy(object.kind), &object.uid, encoded);
                }
                PolicyChange::Remove(kind, uid) => self.remove(Subject::Policy(kind), &uid),
                PolicyChange::Complete(kind) => self.complete(Subject::Policy(kind)),
                PolicyChange::Absent(kind) => self.absent(kind),
                // Agents make these of what they are told of Services.
                PolicyChange::BeginServices
                | PolicyChange::SetService(_)
                | PolicyChange::RemoveService(_)
                | PolicyChange::CompleteServices => {}
            },
        }
    }

    fn begin(&mut self, subject: Subject) {
        let objects = &mut self.kinds[subject.index()];
        objects.round = objects.round.wrapping_add(1);
    }

    fn complete(&mut self, subject: Subject) {
        let objects = &mut self.kinds[subject.index()];
        let is_first = !mem::replace(&mut objects.synced, true);
        let was_absent = mem::take(&mut objects.absent);
        let round = objects.round;
        let gone: Vec<Box<str>> = objects
            .by_uid
            .iter()
            .filter(|(_, entry)| entry.round != round)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in gone {
            self.remove(subject, &uid);
        }
        // Of what is declared agents may be told before all of it is known.
        if let Subject::Policy(_) = subject
            && (is_first || was_absent)
        {
            self.push(Pending::Whole(subject));
        }
    }

    /// There is nothing of a kind, which is known.
    fn absent(&mut self, kind: PolicyKind) {
        let objects = &mut self.kinds[Subject::Policy(kind).index()];
        if objects.absent {
            return;
        }
        (objects.synced, objects.absent) = (true, true);
        let gone = mem::take(&mut objects.by_uid);
        self.objects -= gone.len();
        let bytes: usize = gone.values().map(|entry| entry.encoded.len()).sum();
        self.object_bytes -= bytes;
        self.push(Pending::Whole(Subject::Policy(kind)));
    }

    fn set(&mut self, subject: Subject, uid: &str, encoded: Bytes) {
        if uid.is_empty() || uid.len() > MAX_UID {
            self.counts.malformed += 1;
            return;
        }
        if encoded.len() > self.limits.object_bytes {
            // What is known of it is no longer true.
            self.counts.too_large += 1;
            self.remove(subject, uid);
            return;
        }
        let objects = &mut self.kinds[subject.index()];
        let round = objects.round;
        if let Some(entry) = objects.by_uid.get_mut(uid) {
            entry.round = round;
            if entry.encoded == encoded {
                self.counts.unchanged += 1;
                return;
            }
            self.object_bytes += encoded.len();
            self.object_bytes -= mem::replace(&mut entry.encoded, encoded).len();
        } else if self.objects >= self.limits.objects {
            self.counts.too_many += 1;
            return;
        } else {
            self.objects += 1;
            self.object_bytes += encoded.len();
            objects.by_uid.insert(uid.into(), Entry { encoded, round });
        }
        self.touch(subject, uid);
    }

    fn remove(&mut self, subject: Subject, uid: &str) {
        if let Some(entry) = self.kinds[subject.index()].by_uid.remove(uid) {
            self.objects -= 1;
            self.object_bytes -= entry.encoded.len();
            self.touch(subject, uid);
        }
    }

    fn touch(&mut self, subject: Subject, uid: &str) {
        self.counts.changed += 1;
        // What is declared is told once all of its kind is known.
        if matches!(subject, Subject::Kind(_)) || self.kinds[subject.index()].is_told() {
            self.push(Pending::Object(subject, uid.into()));
        }
    }

    fn push(&mut self, pending: Pending) {
        // Before everything is known nobody is told anything.
        if self.is_synced() && self.is_pending.insert(pending.clone()) {
            self.pending.push(pending);
        }
    }

    /// Makes deltas of what changed, and says whether there is a new revision.
    pub fn seal(&mut self) -> bool {
        let pending = mem::take(&mut self.pending);
        self.is_pending.clear();
        let mut changes = Vec::new();
        let mut bytes = 0;
        for pending in &pending {
            for change in self.delta(pending) {
                bytes += change.len();
                changes.push(change);
                if bytes >= DELTA_BYTES || changes.len() >= self.limits.delta_changes {
                    self.log(mem::take(&mut changes));
                    bytes = 0;
                }
            }
        }
        if !changes.is_empty() {
            self.log(changes);
        }
        !pending.is_empty()
    }

    /// What agents are told of what changed.
    fn delta(&self, pending: &Pending) -> Vec<Bytes> {
        match pending {
            Pending::Object(subject, uid) => {
                let objects = &self.kinds[subject.index()];
                vec![match objects.by_uid.get(uid) {
                    Some(entry) => entry.encoded.clone(),
                    None => message::encode_removal(*subject, uid),
                }]
            }
            Pending::Whole(subject) => {
                let objects = &self.kinds[subject.index()];
                if let Subject::Policy(kind) = subject
                    && objects.absent
                {
                    return vec![message::encode_absent(*kind)];
                }
                let all = objects.by_uid.values().map(|entry| entry.encoded.clone());
                std::iter::once(message::encode_begin(*subject))
                    .chain(all)
                    .chain([message::encode_complete(*subject)])
                    .collect()
            }
        }
    }

    fn log(&mut self, changes: Vec<Bytes>) {
        self.revision += 1;
        let batch = Batch {
            revision: self.revision,
            changes,
        };
        match codec::encode(Content::Batch(batch)) {
            Ok(frame) => {
                self.log_bytes += frame.len();
                self.written += frame.len() as u64;
                self.log.push_back(frame);
            }
            Err(_) => {
                // Cannot be, as objects and deltas are bounded; then agents take a snapshot.
                self.counts.too_large += 1;
                self.log.clear();
                self.log_bytes = 0;
            }
        }
        while self.log.len() > self.limits.log_entries || self.log_bytes > self.limits.log_bytes {
            let Some(frame) = self.log.pop_front() else {
                break;
            };
            self.log_bytes -= frame.len();
        }
    }

    /// At most `most` deltas behind `revision`.
    pub fn after(&self, revision: u64, most: usize) -> Next {
        let Some(behind) = self.revision.checked_sub(revision) else {
            return Next::Gone;
        };
        if behind == 0 {
            return Next::UpToDate;
        }
        let Some(first) = usize::try_from(behind)
            .ok()
            .and_then(|behind| self.log.len().checked_sub(behind))
        else {
            return Next::Gone;
        };
        let frames: Vec<Bytes> = self.log.iter().skip(first).take(most).cloned().collect();
        let known = revision + frames.len() as u64;
        Next::Deltas(frames, known)
    }

    /// Whether what an agent knows can be continued.
    pub fn can_resume(&self, epoch: u64, revision: u64) -> bool {
        epoch == self.epoch && self.after(revision, 0) != Next::Gone
    }

    /// Which run of which hub this is.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What is known.
    pub const fn revision(&self) -> u64 {
        self.revision
    }

    /// Bytes of all deltas there ever were: what passed since a snapshot is the difference.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// Whether all objects of all kinds were told once.
    pub fn is_synced(&self) -> bool {
        // What is declared is no reason to keep agents waiting.
        let known = |kind: Kind| self.kinds[Subject::Kind(kind).index()].synced;
        Kind::ALL.into_iter().all(known)
    }

    /// Kinds whose objects were not all told yet.
    pub fn unsynced(&self) -> Vec<Kind> {
        let mut kinds = Kind::ALL.to_vec();
        kinds.retain(|kind| !self.kinds[Subject::Kind(*kind).index()].synced);
        kinds
    }

    /// Whether all objects of a kind were told once, and how many there are.
    pub fn kind(&self, kind: Kind) -> (bool, usize) {
        let objects = &self.kinds[Subject::Kind(kind).index()];
        (objects.synced, objects.by_uid.len())
    }

    /// The same of a kind that is declared; `None` while it is not known, and where the API has
    /// no such kind.
    pub fn policies(&self, kind: PolicyKind) -> Option<usize> {
        let objects = &self.kinds[Subject::Policy(kind).index()];
        objects.is_told().then(|| objects.by_uid.len())
    }

    /// Everything, to make a [`Snapshot`] of: it shares the objects' bytes.
    pub fn collect(&self) -> Collected {
        let of = |subject: Subject| {
            let objects = &self.kinds[subject.index()];
            let all = objects.by_uid.values().map(|entry| entry.encoded.clone());
            objects
                .synced
                .then(|| (subject, (!objects.absent).then(|| all.collect())))
        };
        // Nodes first: pods name them. Then what is looked up for most.
        let kinds = [Kind::Node, Kind::Service, Kind::Pod, Kind::Endpoints].map(Subject::Kind);
        let declared = PolicyKind::ALL.map(Subject::Policy);
        Collected {
            epoch: self.epoch,
            revision: self.revision,
            written: self.written,
            kinds: kinds.into_iter().chain(declared).filter_map(of).collect(),
        }
    }

    /// Changes that made a difference, and those that made none to what agents are told.
    pub const fn changes(&self) -> (u64, u64) {
        (self.counts.changed, self.counts.unchanged)
    }

    /// Bytes of all objects, encoded.
    pub const fn object_bytes(&self) -> usize {
        self.object_bytes
    }

    /// Bytes of the deltas that are kept.
    pub const fn log_bytes(&self) -> usize {
        self.log_bytes
    }

    /// How full the tables are.
    pub fn tables(&self) -> [Table; 2] {
        let table = |name, entries: usize, limit: usize| Table {
            name,
            entries: entries as u64,
            limit: limit as u64,
        };
        [
            table("hub_objects", self.objects, self.limits.objects),
            table("hub_deltas", self.log.len(), self.limits.log_entries),
        ]
    }

    /// What was not taken, and why.
    pub fn losses(&self) -> [Loss; 3] {
        let loss = |reason, count| Loss {
            stage: "hub",
            reason,
            count,
        };
        [
            loss("too_many_objects", self.counts.too_many),
            loss("object_too_large", self.counts.too_large),
            loss("object_malformed", self.counts.malformed),
        ]
    }
}

// === impl Objects ===

impl Objects {
    /// Whether all of them were told once, and there may be some.
    const fn is_told(&self) -> bool {
        self.synced && !self.absent
    }
}

#[cfg(test)]
mod tests;
