//! Values under small reusable numbers.

use std::marker::PhantomData;
use std::ops::{Index, IndexMut};

/// A host that is up, interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct HostIx(u32);

/// A task, interned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TaskIx(u32);

impl From<u32> for HostIx {
    fn from(n: u32) -> Self {
        Self(n)
    }
}

impl From<u32> for TaskIx {
    fn from(n: u32) -> Self {
        Self(n)
    }
}

impl From<HostIx> for u32 {
    fn from(h: HostIx) -> Self {
        h.0
    }
}

impl From<TaskIx> for u32 {
    fn from(t: TaskIx) -> Self {
        t.0
    }
}

/// Values of type `T` under keys of type `K`. Indexing with the key of a removed value is a broken invariant.
pub(super) struct Slab<K, T> {
    items: Vec<Option<T>>,
    free: Vec<u32>,
    key: PhantomData<K>,
}

impl<K: From<u32> + Into<u32> + Copy, T> Slab<K, T> {
    pub(super) const fn new() -> Self {
        Self { items: Vec::new(), free: Vec::new(), key: PhantomData }
    }

    pub(super) fn insert(&mut self, value: T) -> K {
        match self.free.pop() {
            Some(n) => {
                self.items[n as usize] = Some(value);
                K::from(n)
            }
            None => {
                self.items.push(Some(value));
                K::from(self.items.len() as u32 - 1)
            }
        }
    }

    pub(super) fn remove(&mut self, key: K) -> Option<T> {
        let value = self.items.get_mut(key.into() as usize)?.take()?;
        self.free.push(key.into());
        Some(value)
    }

    pub(super) fn get(&self, key: K) -> Option<&T> {
        self.items.get(key.into() as usize)?.as_ref()
    }

    pub(super) const fn len(&self) -> usize {
        self.items.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (K, &T)> {
        self.items.iter().enumerate().filter_map(|(n, item)| Some((K::from(n as u32), item.as_ref()?)))
    }
}

impl<K: From<u32> + Into<u32> + Copy, T> Index<K> for Slab<K, T> {
    type Output = T;
    fn index(&self, key: K) -> &T {
        self.get(key).expect("the key of a value that was not removed")
    }
}

impl<K: From<u32> + Into<u32> + Copy, T> IndexMut<K> for Slab<K, T> {
    fn index_mut(&mut self, key: K) -> &mut T {
        let item = self.items.get_mut(key.into() as usize).and_then(Option::as_mut);
        item.expect("the key of a value that was not removed")
    }
}
