//! The engine's types, with its panics made errors.
//!
//! redb takes the pages of a file for what they say they are: on a damaged one it may panic
//! ("Invalid page type byte", an index out of range) where it reads, writes or is dropped. Here
//! each call becomes an error that says the file is damaged. The types have redb's own names and
//! shapes, as far as the store uses them.

use std::borrow::Borrow;
use std::cell::Cell;
use std::ops::RangeBounds;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub(super) use redb::AccessGuard;
use redb::{
    CommitError, CompactionError, DatabaseError, Key, ReadableDatabase as _, StorageError,
    TableDefinition, TableError, TableHandle as _, TransactionError, Value,
};
use redb::{ReadableTable as _, ReadableTableMetadata as _};

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic of this thread, now, becomes an error of the store: a program's panic hook may
/// leave it unsaid.
pub fn panic_becomes_error() -> bool {
    GUARDED.get()
}

/// Makes a panic of the engine an error.
///
/// Whatever is left half done is dropped with the transaction: nothing is committed by a call that
/// did not return.
fn guarded<T, E: From<StorageError>>(call: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(before);
    result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
        let what = text.unwrap_or("no reason given");
        let line = what.lines().next().unwrap_or_default();
        Err(StorageError::Corrupted(format!("the engine gave up on a page: {line}")).into())
    })
}

/// A value that is dropped without letting a panic out.
struct Kept<T>(Option<T>);

impl<T> Kept<T> {
    fn new(value: T) -> Self {
        Kept(Some(value))
    }

    fn get(&self) -> Result<&T, StorageError> {
        self.0.as_ref().ok_or_else(gone)
    }

    fn get_mut(&mut self) -> Result<&mut T, StorageError> {
        self.0.as_mut().ok_or_else(gone)
    }

    fn take(&mut self) -> Result<T, StorageError> {
        self.0.take().ok_or_else(gone)
    }
}

fn gone() -> StorageError {
    StorageError::Corrupted("used after its end".to_owned())
}

impl<T> Drop for Kept<T> {
    fn drop(&mut self) {
        let value = self.0.take();
        // What it would have told, nobody can be told any more.
        let _ = guarded(|| {
            drop(value);
            Ok::<_, StorageError>(())
        });
    }
}

/// A database open for writing.
pub(super) struct Database(Kept<redb::Database>);

impl Database {
    /// Opens or makes one by what the builder is asked to do.
    pub(super) fn new(
        open: impl FnOnce() -> Result<redb::Database, DatabaseError>,
    ) -> Result<Self, DatabaseError> {
        guarded(open).map(|database| Database(Kept::new(database)))
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, TransactionError> {
        guarded(|| self.0.get()?.begin_read()).map(|txn| ReadTransaction(Kept::new(txn)))
    }

    pub(super) fn begin_write(&self) -> Result<WriteTransaction, TransactionError> {
        guarded(|| self.0.get()?.begin_write()).map(|txn| WriteTransaction(Kept::new(txn)))
    }

    pub(super) fn check_integrity(&mut self) -> Result<bool, DatabaseError> {
        guarded(|| self.0.get_mut()?.check_integrity())
    }

    pub(super) fn compact(&mut self) -> Result<bool, CompactionError> {
        guarded(|| self.0.get_mut()?.compact())
    }

    pub(super) fn close(mut self) -> Result<(), DatabaseError> {
        guarded(|| self.0.take()?.close())
    }
}

/// A database open for reading.
pub(super) struct ReadOnlyDatabase(Kept<redb::ReadOnlyDatabase>);

impl ReadOnlyDatabase {
    /// Opens one by what the builder is asked to do.
    pub(super) fn new(
        open: impl FnOnce() -> Result<redb::ReadOnlyDatabase, DatabaseError>,
    ) -> Result<Self, DatabaseError> {
        guarded(open).map(|database| ReadOnlyDatabase(Kept::new(database)))
    }

    pub(super) fn begin_read(&self) -> Result<ReadTransaction, TransactionError> {
        guarded(|| self.0.get()?.begin_read()).map(|txn| ReadTransaction(Kept::new(txn)))
    }
}

/// A moment of the database.
pub(super) struct ReadTransaction(Kept<redb::ReadTransaction>);

impl ReadTransaction {
    pub(super) fn open_table<K: Key + 'static, V: Value + 'static>(
        &self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<ReadOnlyTable<K, V>, TableError> {
        guarded(|| self.0.get()?.open_table(definition))
            .map(|table| ReadOnlyTable(Kept::new(table)))
    }

    /// The names of the tables there are.
    pub(super) fn table_names(&self) -> Result<Vec<String>, StorageError> {
        guarded(|| {
            let tables = self.0.get()?.list_tables()?;
            Ok(tables.map(|table| table.name().to_owned()).collect())
        })
    }
}

/// A change of the database under way.
pub(super) struct WriteTransaction(Kept<redb::WriteTransaction>);

impl WriteTransaction {
    pub(super) fn open_table<'txn, K: Key + 'static, V: Value + 'static>(
        &'txn self,
        definition: TableDefinition<'_, K, V>,
    ) -> Result<Table<'txn, K, V>, TableError> {
        guarded(|| self.0.get()?.open_table(definition)).map(|table| Table(Kept::new(table)))
    }

    pub(super) fn set_quick_repair(&mut self, enabled: bool) {
        if let Ok(txn) = self.0.get_mut() {
            txn.set_quick_repair(enabled);
        }
    }

    pub(super) fn commit(mut self) -> Result<(), CommitError> {
        guarded(|| self.0.take()?.commit())
    }
}

/// What can be read of a table.
pub(super) trait ReadableTable<K: Key + 'static, V: Value + 'static> {
    fn get<'a>(
        &self,
        key: impl Borrow<K::SelfType<'a>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError>;

    fn range<'a, KR: Borrow<K::SelfType<'a>> + 'a>(
        &self,
        range: impl RangeBounds<KR> + 'a,
    ) -> Result<Range<'_, K, V>, StorageError>;

    fn len(&self) -> Result<u64, StorageError>;
}

/// A value that can be read: whether it can shows where it is made, not where it is used.
fn readable<V: Value + 'static>(found: Option<AccessGuard<'_, V>>) -> Option<AccessGuard<'_, V>> {
    if let Some(guard) = &found {
        let _ = guard.value();
    }
    found
}

/// A table of a write transaction.
pub(super) struct Table<'txn, K: Key + 'static, V: Value + 'static>(Kept<redb::Table<'txn, K, V>>);

impl<K: Key + 'static, V: Value + 'static> Table<'_, K, V> {
    pub(super) fn insert<'k, 'v>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
        value: impl Borrow<V::SelfType<'v>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        guarded(|| self.0.get_mut()?.insert(key, value))
    }

    pub(super) fn remove<'k>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        guarded(|| self.0.get_mut()?.remove(key))
    }

    /// Removes the entries of a range that are not to be kept.
    pub(super) fn retain_in<'a, KR: Borrow<K::SelfType<'a>> + 'a>(
        &mut self,
        range: impl RangeBounds<KR> + 'a,
        keep: impl for<'f> FnMut(K::SelfType<'f>, V::SelfType<'f>) -> bool,
    ) -> Result<(), StorageError> {
        guarded(|| self.0.get_mut()?.retain_in(range, keep))
    }

    pub(super) fn retain(
        &mut self,
        keep: impl for<'f> FnMut(K::SelfType<'f>, V::SelfType<'f>) -> bool,
    ) -> Result<(), StorageError> {
        guarded(|| self.0.get_mut()?.retain(keep))
    }
}

impl<K: Key + 'static, V: Value + 'static> ReadableTable<K, V> for Table<'_, K, V> {
    fn get<'a>(
        &self,
        key: impl Borrow<K::SelfType<'a>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        guarded(|| Ok(readable(self.0.get()?.get(key)?)))
    }

    fn range<'a, KR: Borrow<K::SelfType<'a>> + 'a>(
        &self,
        range: impl RangeBounds<KR> + 'a,
    ) -> Result<Range<'_, K, V>, StorageError> {
        guarded(|| self.0.get()?.range(range)).map(Range)
    }

    fn len(&self) -> Result<u64, StorageError> {
        guarded(|| self.0.get()?.len())
    }
}

/// A table of a moment.
pub(super) struct ReadOnlyTable<K: Key + 'static, V: Value + 'static>(
    Kept<redb::ReadOnlyTable<K, V>>,
);

impl<K: Key + 'static, V: Value + 'static> ReadOnlyTable<K, V> {
    pub(super) fn get<'a>(
        &self,
        key: impl Borrow<K::SelfType<'a>>,
    ) -> Result<Option<AccessGuard<'static, V>>, StorageError> {
        guarded(|| Ok(readable(self.0.get()?.get(key)?)))
    }

    pub(super) fn range<'a, KR: Borrow<K::SelfType<'a>>>(
        &self,
        range: impl RangeBounds<KR>,
    ) -> Result<Range<'static, K, V>, StorageError> {
        guarded(|| self.0.get()?.range(range)).map(Range)
    }

    /// The first key, and its value.
    pub(super) fn first(&self) -> Result<Option<Pair<'_, K, V>>, StorageError> {
        guarded(|| {
            let found = self.0.get()?.first()?;
            if let Some((key, value)) = &found {
                let _ = (key.value(), value.value());
            }
            Ok(found)
        })
    }
}

impl<K: Key + 'static, V: Value + 'static> ReadableTable<K, V> for ReadOnlyTable<K, V> {
    fn get<'a>(
        &self,
        key: impl Borrow<K::SelfType<'a>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        ReadOnlyTable::get(self, key)
    }

    fn range<'a, KR: Borrow<K::SelfType<'a>> + 'a>(
        &self,
        range: impl RangeBounds<KR> + 'a,
    ) -> Result<Range<'_, K, V>, StorageError> {
        ReadOnlyTable::range(self, range)
    }

    fn len(&self) -> Result<u64, StorageError> {
        guarded(|| self.0.get()?.len())
    }
}

/// A key and its value.
type Pair<'a, K, V> = (AccessGuard<'a, K>, AccessGuard<'a, V>);

/// Entries of a table in the order of their keys.
pub(super) struct Range<'a, K: Key + 'static, V: Value + 'static>(redb::Range<'a, K, V>);

impl<'a, K: Key + 'static, V: Value + 'static> Range<'a, K, V> {
    fn step(
        &mut self,
        step: impl FnOnce(&mut redb::Range<'a, K, V>) -> Option<redb::Result<Pair<'a, K, V>>>,
    ) -> Option<redb::Result<Pair<'a, K, V>>> {
        let found = guarded(|| {
            let found = step(&mut self.0).transpose()?;
            if let Some((key, value)) = &found {
                let _ = (key.value(), value.value());
            }
            Ok(found)
        });
        found.transpose()
    }
}

impl<'a, K: Key + 'static, V: Value + 'static> Iterator for Range<'a, K, V> {
    type Item = redb::Result<Pair<'a, K, V>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step(Iterator::next)
    }
}

impl<K: Key + 'static, V: Value + 'static> DoubleEndedIterator for Range<'_, K, V> {
    fn next_back(&mut self) -> Option<Self::Item> {
        self.step(DoubleEndedIterator::next_back)
    }
}
