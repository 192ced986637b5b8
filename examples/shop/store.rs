//! The orders, in an embedded database behind one lock.

use std::error::Error;

use profiler_core::profiled;
use profiler_core::sync::Mutex;
use redb::{Database, Durability, ReadableDatabase, TableDefinition};
use tempfile::TempDir;

use crate::catalog::{Cents, Sku};

pub(crate) type StoreError = Box<dyn Error + Send + Sync>;

/// Order number → product, quantity, price.
const ORDERS: TableDefinition<'_, u64, (Sku, u32, Cents)> = TableDefinition::new("orders");

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) sku: Sku,
    pub(crate) quantity: u32,
    pub(crate) price: Cents,
}

pub(crate) struct Store {
    ledger: Mutex<Ledger>,
    /// Removed when the store is dropped, after the database in it.
    _directory: TempDir,
}

struct Ledger {
    database: Database,
    /// The number of the last order.
    last: u64,
}

#[profiled]
impl Store {
    /// Opens an empty store that lasts as long as the program.
    pub(crate) fn temporary() -> Result<Self, StoreError> {
        let directory = tempfile::Builder::new().prefix("shop-").tempdir()?;
        let database = Database::create(directory.path().join("orders.redb"))?;
        let created = database.begin_write()?;
        created.open_table(ORDERS)?;
        created.commit()?;
        let ledger = Mutex::named("store", Ledger { database, last: 0 });
        Ok(Self { ledger, _directory: directory })
    }

    /// Writes an order and returns its number. The disk has it after the next checkpoint.
    pub(crate) fn record(&self, order: Order) -> Result<u64, StoreError> {
        let mut ledger = self.ledger.lock().expect("no thread panicked here");
        let number = ledger.last + 1;
        let mut change = ledger.database.begin_write()?;
        change.set_durability(Durability::None)?;
        change.open_table(ORDERS)?.insert(number, (order.sku, order.quantity, order.price))?;
        change.commit()?;
        ledger.last = number;
        Ok(number)
    }

    pub(crate) fn find(&self, number: u64) -> Result<Option<Order>, StoreError> {
        let ledger = self.ledger.lock().expect("no thread panicked here");
        let orders = ledger.database.begin_read()?.open_table(ORDERS)?;
        let Some(row) = orders.get_owned(number)? else { return Ok(None) };
        let (sku, quantity, price) = row.value();
        Ok(Some(Order { sku, quantity, price }))
    }

    /// Waits until every order is on the disk.
    pub(crate) fn checkpoint(&self) -> Result<(), StoreError> {
        let ledger = self.ledger.lock().expect("no thread panicked here");
        ledger.database.begin_write()?.commit()?;
        Ok(())
    }
}
