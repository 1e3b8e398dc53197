//! The spans that threads are in, as far as a log needs them: their fields.

use std::cell::RefCell;

use parking_lot::Mutex;
use slab::Slab;
use tracing::span::{Attributes, Id, Record};

use crate::log_fields::Fields;

/// Spans that somebody has a handle of.
static OPEN: Mutex<Slab<Open>> = Mutex::new(Slab::new());

thread_local! {
    /// Those that this thread is in, the outermost first.
    static ENTERED: RefCell<Vec<usize>> = const { RefCell::new(Vec::new()) };
}

struct Open {
    fields: Fields,
    handles: usize,
}

// An id is not zero.
fn id_of(key: usize) -> Id {
    Id::from_u64(key as u64 + 1)
}

fn key_of(id: &Id) -> usize {
    usize::try_from(id.into_u64() - 1).unwrap_or(usize::MAX)
}

/// A span begins, with one handle.
pub(crate) fn open(attributes: &Attributes<'_>) -> Id {
    let mut fields = Fields::default();
    attributes.record(&mut fields);
    id_of(OPEN.lock().insert(Open { fields, handles: 1 }))
}

/// A span has more fields.
pub(crate) fn record(id: &Id, values: &Record<'_>) {
    let mut more = Fields::default();
    values.record(&mut more);
    if let Some(open) = OPEN.lock().get_mut(key_of(id)) {
        open.fields.extend(more);
    }
}

/// A span has one more handle.
pub(crate) fn clone(id: &Id) -> Id {
    if let Some(open) = OPEN.lock().get_mut(key_of(id)) {
        open.handles += 1;
    }
    id.clone()
}

/// A span has one handle less; whether that was the last one.
pub(crate) fn close(id: &Id) -> bool {
    let mut all = OPEN.lock();
    let key = key_of(id);
    let Some(open) = all.get_mut(key) else { return false };
    open.handles -= 1;
    let is_over = open.handles == 0;
    if is_over {
        all.remove(key);
    }
    is_over
}

/// This thread is in a span. It keeps a handle until it is out.
pub(crate) fn enter(id: &Id) {
    ENTERED.with_borrow_mut(|entered| entered.push(key_of(id)));
}

/// This thread is out of a span.
pub(crate) fn exit(id: &Id) {
    ENTERED.with_borrow_mut(|entered| {
        if let Some(at) = entered.iter().rposition(|key| *key == key_of(id)) {
            entered.remove(at);
        }
    });
}

/// The fields of all spans that this thread is in; those of inner ones come later.
pub(crate) fn fields() -> Fields {
    let mut fields = Fields::default();
    ENTERED.with_borrow(|entered| {
        if !entered.is_empty() {
            let all = OPEN.lock();
            for open in entered.iter().filter_map(|key| all.get(*key)) {
                fields.extend(open.fields.clone());
            }
        }
    });
    fields
}
