//! A snapshot: all objects at one revision, encoded once for all agents that need it.

use std::mem;

use prost::bytes::Bytes;

use crate::cluster::{
    object::Subject,
    stream::{
        codec::{self, TooLarge},
        message::{self, Batch, Content},
    },
};

/// What a snapshot is made of.
#[derive(Clone, Debug)]
pub struct Collected {
    pub(super) epoch: u64,
    pub(super) revision: u64,
    pub(super) written: u64,
    /// The objects of each kind that is known; `None` for one that the API does not have.
    pub(super) kinds: Vec<(Subject, Option<Vec<Bytes>>)>,
}

/// All objects at one revision, as they are sent.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The hub's run.
    pub epoch: u64,
    /// What is known after it.
    pub revision: u64,
    /// [`super::Store::written`] when it was taken.
    pub written: u64,
    /// Frames, in order.
    pub frames: Vec<Bytes>,
    /// Bytes of all frames.
    pub bytes: usize,
}

/// Bytes of changes from where on a frame is closed.
const CHUNK: usize = 256 << 10;

/// What is in front of an object's first field: the number of its kind, and its length.
fn content(encoded: &[u8]) -> &[u8] {
    let length = encoded
        .iter()
        .skip(1)
        .position(|byte| *byte < 0x80)
        .map_or(0, |end| end + 2);
    encoded.get(length..).unwrap_or_default()
}

// === impl Collected ===

impl Collected {
    /// Encodes and deflates: milliseconds for each ten thousand objects.
    ///
    /// # Errors
    ///
    /// When an object is larger than a frame, which the store does not take.
    pub fn encode(self) -> Result<Snapshot, TooLarge> {
        let mut frames = Vec::new();
        let mut changes = Vec::new();
        let mut bytes = 0;
        for (subject, objects) in self.kinds {
            let told = match (objects, subject) {
                (Some(mut objects), _) => {
                    // Objects start with namespace and name: what is alike is together, and
                    // deflates well.
                    objects.sort_unstable_by(|one, other| content(one).cmp(content(other)));
                    objects.insert(0, message::encode_begin(subject));
                    objects.push(message::encode_complete(subject));
                    objects
                }
                (None, Subject::Policy(kind)) => vec![message::encode_absent(kind)],
                (None, Subject::Kind(_)) => continue,
            };
            for change in told {
                if bytes >= CHUNK || changes.len() >= codec::MAX_CHANGES {
                    let changes = mem::take(&mut changes);
                    let batch = Batch {
                        revision: 0,
                        changes,
                    };
                    frames.push(codec::encode(Content::Batch(batch))?);
                    bytes = 0;
                }
                bytes += change.len();
                changes.push(change);
            }
        }
        let last = Batch {
            revision: self.revision,
            changes,
        };
        frames.push(codec::encode(Content::Batch(last))?);
        Ok(Snapshot {
            epoch: self.epoch,
            revision: self.revision,
            written: self.written,
            bytes: frames.iter().map(Bytes::len).sum(),
            frames,
        })
    }
}
