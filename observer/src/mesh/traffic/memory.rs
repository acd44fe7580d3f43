//! Answers that were given once, for as long as what is declared stays the same.

use std::{hash::BuildHasher, sync::Arc};

use foldhash::fast::RandomState;
use hashbrown::HashMap;

use crate::model::exchange::RequestHead;

/// Answers by who asks whom, and by the request: two generations of them, so that what is not asked
/// any more is forgotten without looking at each.
#[derive(Debug)]
pub(super) struct Memory<A> {
    young: HashMap<u64, Entry<A>, RandomState>,
    old: HashMap<u64, Entry<A>, RandomState>,
    hasher: RandomState,
}

#[derive(Debug)]
struct Entry<A> {
    scope: u64,
    head: Arc<RequestHead>,
    grpc: bool,
    valid: Valid,
    answer: A,
}

/// What must be the same for an answer to be right still.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Valid {
    /// Revision of what is declared.
    pub(super) revision: u64,
    /// Changes when places of our own tables are given to others.
    pub(super) epoch: u64,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    /// Nothing of the request matters but the authority.
    pub(super) whole: bool,
    /// Stands for everything but the request.
    pub(super) scope: u64,
    /// The request.
    pub(super) head: &'a Arc<RequestHead>,
    /// Whether it is a remote procedure call.
    pub(super) grpc: bool,
    /// When the answer is right.
    pub(super) valid: Valid,
}

// === impl Memory ===

impl<A: Clone> Memory<A> {
    /// Nothing is remembered.
    pub(super) fn new() -> Self {
        Self {
            young: HashMap::default(),
            old: HashMap::default(),
            hasher: RandomState::default(),
        }
    }

    fn key(&self, question: &Question<'_>) -> u64 {
        let head = question.head;
        if question.whole {
            return self.hasher.hash_one((question.scope, &*head.authority));
        }
        self.hasher.hash_one((
            question.scope,
            &*head.authority,
            &*head.method,
            &*head.path,
            question.grpc,
        ))
    }

    /// The answer that was given, if it is right still.
    pub(super) fn get(&mut self, question: &Question<'_>, limit: usize) -> Option<A> {
        let key = self.key(question);
        if let Some(entry) = self.young.get(&key) {
            if entry.answers(question) {
                return Some(entry.answer.clone());
            }
        } else if let Some(entry) = self.old.remove(&key)
            && entry.answers(question)
        {
            let answer = entry.answer.clone();
            self.insert(key, entry, limit);
            return Some(answer);
        }
        None
    }

    /// Remembers an answer.
    pub(super) fn put(&mut self, question: &Question<'_>, answer: A, limit: usize) {
        let entry = Entry {
            scope: question.scope,
            head: question.head.clone(),
            grpc: question.grpc,
            valid: question.valid,
            answer,
        };
        let key = self.key(question);
        self.insert(key, entry, limit);
    }

    fn insert(&mut self, key: u64, entry: Entry<A>, limit: usize) {
        if self.young.len() >= (limit / 2).max(1) {
            std::mem::swap(&mut self.old, &mut self.young);
            self.young.clear();
        }
        self.young.insert(key, entry);
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

// === impl Entry ===

impl<A> Entry<A> {
    fn answers(&self, question: &Question<'_>) -> bool {
        let same = self.valid == question.valid && self.scope == question.scope;
        if question.whole {
            return same && self.head.authority == question.head.authority;
        }
        same && self.grpc == question.grpc
            && (Arc::ptr_eq(&self.head, question.head) || self.head == *question.head)
    }
}
