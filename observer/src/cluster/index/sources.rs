//! Who told of an object, and what a list of all objects leaves out.

use crate::{
    cluster::object::{Kind, Source},
    model::time::{Monotonic, WallOffset},
};

/// A change, as far as it is the same for all kinds of objects.
#[derive(Clone, Copy, Debug)]
pub(super) struct Telling {
    pub(super) source: Source,
    /// The list of objects that it belongs to.
    pub(super) list: u32,
    /// What was and ended before this, the source may never have told.
    pub(super) blind: Monotonic,
    /// When it arrived.
    pub(super) now: Monotonic,
    pub(super) offset: WallOffset,
}

/// Who told of an object: the list in which each source did so last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told([Option<u32>; SOURCES]);

/// How far each source is with each kind.
#[derive(Debug, Default)]
pub(super) struct Lists([[List; KINDS]; SOURCES]);

/// How far a source is with a kind.
#[derive(Clone, Copy, Debug, Default)]
struct List {
    number: u32,
    /// When the source was last heard before the list that is under way.
    since: Option<Monotonic>,
    heard: Monotonic,
    /// When the last list was complete.
    complete: Option<Monotonic>,
}

pub(super) const SOURCES: usize = 2;
const KINDS: usize = Kind::ALL.len();

/// Number of a source.
pub(super) const fn number(source: Source) -> usize {
    match source {
        Source::Node => 0,
        Source::Cluster => 1,
    }
}

const fn kind_number(kind: Kind) -> usize {
    match kind {
        Kind::Pod => 0,
        Kind::Service => 1,
        Kind::Endpoints => 2,
        Kind::Node => 3,
    }
}

// === impl Told ===

impl Told {
    pub(super) fn by(telling: &Telling) -> Self {
        let mut told = Self::default();
        told.mark(telling);
        told
    }

    pub(super) fn mark(&mut self, telling: &Telling) {
        self.0[number(telling.source)] = Some(telling.list);
    }

    pub(super) fn has(&self, source: Source) -> bool {
        self.0[number(source)].is_some()
    }

    pub(super) fn clear(&mut self, source: Source) {
        self.0[number(source)] = None;
    }

    /// Whether the source had it, and its latest list does not.
    pub(super) fn is_left_out(&self, telling: &Telling) -> bool {
        self.0[number(telling.source)].is_some_and(|list| list != telling.list)
    }
}

// === impl Lists ===

impl Lists {
    fn list(&mut self, source: Source, kind: Kind) -> &mut List {
        &mut self.0[number(source)][kind_number(kind)]
    }

    /// A change comes in.
    pub(super) fn hear(
        &mut self,
        source: Source,
        kind: Kind,
        now: Monotonic,
        offset: WallOffset,
    ) -> Telling {
        let list = self.list(source, kind);
        let blind = if list.since.is_some() {
            now
        } else {
            list.heard = now;
            list.complete.unwrap_or_default()
        };
        Telling {
            source,
            list: list.number,
            blind,
            now,
            offset,
        }
    }

    pub(super) fn begin(&mut self, source: Source, kind: Kind) {
        let list = self.list(source, kind);
        list.number = list.number.wrapping_add(1);
        // A list that begins anew was never complete: the silence began before the first.
        list.since.get_or_insert(list.heard);
    }

    /// When the source was last heard before the list that ends now; `None` if none began.
    pub(super) fn complete(
        &mut self,
        source: Source,
        kind: Kind,
        now: Monotonic,
    ) -> Option<Monotonic> {
        let list = self.list(source, kind);
        list.complete = Some(now);
        list.heard = now;
        list.since.take()
    }

    pub(super) fn is_complete(&self, source: Source, kind: Kind) -> bool {
        self.0[number(source)][kind_number(kind)].complete.is_some()
    }

    /// Whether some source told all objects of a kind.
    pub(super) fn is_known(&self, kind: Kind) -> bool {
        [Source::Node, Source::Cluster]
            .iter()
            .any(|source| self.is_complete(*source, kind))
    }
}
