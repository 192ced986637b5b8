//! The list of those who wait on a condition variable; see `condvar.rs` for what it is for.

#![allow(unsafe_code, reason = "a list whose nodes stand on the stacks of those who wait")]

use std::cell::Cell;
use std::ptr;

use super::monitor::Monitor;
use crate::capture::ledger::Ledger;

/// One that waits. Its cells are for whoever holds the list's lock, until it has left the list.
#[derive(Debug)]
pub(crate) struct Waiter {
    monitor: *const Monitor,
    /// When it was notified and entered into the ledger.
    mark: Cell<Option<u64>>,
    /// What marks that were taken back had added to the ledger.
    borne: Cell<u64>,
    previous: Cell<*const Self>,
    next: Cell<*const Self>,
}

impl Waiter {
    pub(crate) const fn new(monitor: &Monitor) -> Self {
        Self {
            monitor: ptr::from_ref(monitor),
            mark: Cell::new(None),
            borne: Cell::new(0),
            previous: Cell::new(ptr::null()),
            next: Cell::new(ptr::null()),
        }
    }

    /// Leaves the ledger at `end`, after the waiter has left the list. `deadline` is when it timed
    /// out. Returns how long it was in the ledger, if at all.
    pub(crate) fn settle(&self, ledger: &Ledger, deadline: Option<u64>, end: u64) -> Option<u64> {
        let borne = Some(self.borne.get()).filter(|&borne| borne > 0);
        let since = match (self.mark.take(), deadline) {
            (Some(mark), _) => mark,
            (None, Some(deadline)) if borne.is_none() && deadline < end => {
                ledger.enter(deadline);
                deadline
            }
            _ => return borne,
        };
        let end = end.max(since);
        ledger.leave(end);
        Some(borne.unwrap_or(0) + (end - since))
    }

    /// Marks it as notified at `now`.
    fn mark(&self, now: u64) {
        self.mark.set(Some(now));
        self.ledger().enter(now);
    }

    /// Takes its mark back, if it has one.
    fn unmark(&self, now: u64) {
        let Some(mark) = self.mark.take() else { return };
        let now = now.max(mark);
        self.borne.set(self.borne.get() + (now - mark));
        self.ledger().leave(now);
    }

    /// Whether both wait with one lock, in whose ledger a mark stands.
    fn shares_lock(&self, other: &Self) -> bool {
        ptr::eq(self.monitor, other.monitor)
    }

    fn ledger(&self) -> &Ledger {
        // SAFETY: the waiter borrows its lock for as long as it waits; called while it does.
        unsafe { &*self.monitor }.ledger()
    }
}

/// All who wait on one condition variable, in the order in which they came.
#[derive(Debug)]
pub(crate) struct List {
    first: *const Waiter,
    last: *const Waiter,
    /// Whether the condition variable has ever told how many it woke: then 0 means none.
    tells: bool,
}

// SAFETY: the pointers are to waiters, whose cells are for whoever holds the list's lock.
unsafe impl Send for List {}

impl List {
    pub(crate) const fn new() -> Self {
        Self { first: ptr::null(), last: ptr::null(), tells: false }
    }

    /// Returns the list of a forked process's child: those who waited in the parent do not exist there, and their
    /// stacks are for other threads to use.
    pub(crate) const fn without_waiters(&self) -> Self {
        Self { tells: self.tells, ..Self::new() }
    }

    /// Adds a waiter.
    ///
    /// # Safety
    ///
    /// It stays where it is until it is removed, and so does its lock.
    pub(crate) unsafe fn push(&mut self, waiter: &Waiter) {
        waiter.previous.set(self.last);
        // SAFETY: null, or a waiter of this list.
        match unsafe { self.last.as_ref() } {
            Some(last) => last.next.set(waiter),
            None => self.first = waiter,
        }
        self.last = waiter;
    }

    /// Takes a waiter out, with the mark that is its due: its own, or another's.
    ///
    /// # Safety
    ///
    /// It was pushed, and not removed since.
    pub(crate) unsafe fn remove(
        &mut self,
        waiter: &Waiter,
        timed_out: bool,
        now: impl FnOnce() -> u64,
    ) {
        match waiter.mark.get() {
            // Another was woken by that notification, if the condition variable tells such things.
            Some(_) if timed_out && self.tells => {
                match self.oldest(|other| other.mark.get().is_none() && waiter.shares_lock(other)) {
                    Some(other) => other.mark.set(waiter.mark.take()),
                    None => waiter.unmark(now()),
                }
            }
            None if !timed_out => {
                let marked = |other: &Waiter| other.mark.get().is_some();
                if let Some(other) = self.oldest(|other| marked(other) && waiter.shares_lock(other))
                {
                    waiter.mark.set(other.mark.take());
                }
            }
            _ => {}
        }
        let (previous, next) = (waiter.previous.get(), waiter.next.get());
        // SAFETY: null, or a waiter of this list.
        match unsafe { previous.as_ref() } {
            Some(previous) => previous.next.set(next),
            None => self.first = next,
        }
        // SAFETY: null, or a waiter of this list.
        match unsafe { next.as_ref() } {
            Some(next) => next.previous.set(previous),
            None => self.last = previous,
        }
    }

    /// Marks up to `most` of those who wait longest. Returns how many.
    pub(crate) fn mark(&self, most: usize, now: u64) -> usize {
        let unmarked = self.walk(self.first, |waiter| &waiter.next);
        let unmarked = unmarked.filter(|waiter| waiter.mark.get().is_none());
        unmarked.take(most).map(|waiter| waiter.mark(now)).count()
    }

    /// Takes the newest marks back, if `marked` were set just now and only `woken` woke.
    pub(crate) fn woken(&mut self, woken: usize, marked: usize, now: impl Fn() -> u64) {
        self.tells |= woken > 0;
        if self.tells && marked > woken {
            let newest = self.walk(self.last, |waiter| &waiter.previous);
            let newest = newest.filter(|waiter| waiter.mark.get().is_some());
            newest.take(marked - woken).for_each(|waiter| waiter.unmark(now()));
        }
    }

    fn oldest(&self, wanted: impl Fn(&Waiter) -> bool) -> Option<&Waiter> {
        self.walk(self.first, |waiter| &waiter.next).find(|waiter| wanted(waiter))
    }

    #[expect(clippy::unused_self, reason = "the list is borrowed for as long as its waiters are")]
    fn walk(
        &self,
        from: *const Waiter,
        step: impl Fn(&Waiter) -> &Cell<*const Waiter>,
    ) -> impl Iterator<Item = &Waiter> {
        let mut at = from;
        std::iter::from_fn(move || {
            // SAFETY: null, or a waiter of this list: it stays until it is removed, which borrows
            // the list mutably.
            let waiter = unsafe { at.as_ref() }?;
            at = step(waiter).get();
            Some(waiter)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three that wait for one lock, in a list that tells how many it woke or does not.
    fn with_three(tells: bool, test: impl FnOnce(&mut List, &Ledger, [&Waiter; 3])) {
        let monitor = Monitor::new(None);
        let waiters = [Waiter::new(&monitor), Waiter::new(&monitor), Waiter::new(&monitor)];
        let mut list = List::new();
        list.tells = tells;
        for waiter in &waiters {
            // SAFETY: they outlive the list.
            unsafe { list.push(waiter) };
        }
        test(&mut list, monitor.ledger(), waiters.each_ref());
    }

    fn remove(list: &mut List, waiter: &Waiter, timed_out: bool) {
        // SAFETY: pushed by `with_three`, removed once by each test.
        unsafe { list.remove(waiter, timed_out, || 50) };
    }

    #[test]
    fn a_notification_marks_the_oldest() {
        with_three(true, |list, ledger, [a, b, c]| {
            assert_eq!(list.mark(1, 10), 1);
            assert_eq!(list.mark(1, 20), 1);
            assert_eq!([a, b, c].map(|w| w.mark.get()), [Some(10), Some(20), None]);
            assert_eq!(ledger.waiters(), 2);
            assert_eq!(list.mark(usize::MAX, 30), 1);
            assert_eq!(list.mark(1, 40), 0);
        });
    }

    #[test]
    fn who_was_woken_instead_takes_the_mark_over() {
        with_three(true, |list, ledger, [a, b, _]| {
            list.mark(1, 10);
            remove(list, b, false);
            assert_eq!(b.settle(ledger, None, 50), Some(40));
            remove(list, a, false);
            assert_eq!(a.settle(ledger, None, 50), None);
            assert_eq!((ledger.waiters(), ledger.charge(60)), (0, 40));
        });
    }

    #[test]
    fn who_timed_out_passes_the_mark_on() {
        with_three(true, |list, ledger, [a, b, _]| {
            list.mark(1, 10);
            remove(list, a, true);
            // From its own deadline on it waited for the lock.
            assert_eq!(a.settle(ledger, Some(20), 50), Some(30));
            assert_eq!(b.mark.get(), Some(10));
            remove(list, b, false);
            assert_eq!(b.settle(ledger, None, 60), Some(50));
            assert_eq!((ledger.waiters(), ledger.charge(70)), (0, 80));
        });
    }

    #[test]
    fn who_timed_out_keeps_the_mark_where_nobody_tells_whom_it_was_for() {
        with_three(false, |list, ledger, [a, b, _]| {
            list.mark(1, 10);
            remove(list, a, true);
            assert_eq!(a.settle(ledger, Some(20), 50), Some(40));
            assert_eq!(b.mark.get(), None);
            assert_eq!((ledger.waiters(), ledger.charge(60)), (0, 40));
        });
    }

    #[test]
    fn marks_that_woke_nobody_are_taken_back_and_still_add_up() {
        with_three(true, |list, ledger, [a, b, c]| {
            assert_eq!(list.mark(usize::MAX, 10), 3);
            list.woken(1, 3, || 15);
            assert_eq!([a, b, c].map(|w| w.mark.get()), [Some(10), None, None]);
            assert_eq!(ledger.charge(20), 10 + 5 + 5);
            remove(list, a, false);
            assert_eq!(a.settle(ledger, None, 30), Some(20));
            remove(list, c, false);
            assert_eq!(c.settle(ledger, None, 90), Some(5));
            remove(list, b, true);
            assert_eq!(b.settle(ledger, Some(80), 90), Some(5));
            assert_eq!((ledger.waiters(), ledger.charge(90)), (0, 10));
        });
    }

    #[test]
    fn a_list_that_never_tells_takes_nothing_back() {
        with_three(false, |list, ledger, _| {
            list.mark(1, 10);
            list.woken(0, 1, || 15);
            assert_eq!(ledger.waiters(), 1);
        });
    }

    #[test]
    fn a_mark_stays_with_its_lock() {
        let monitors = [Monitor::new(None), Monitor::new(None)];
        let [a, b] = monitors.each_ref().map(Waiter::new);
        for tells in [false, true] {
            let mut list = List::new();
            list.tells = tells;
            for waiter in [&a, &b] {
                // SAFETY: they outlive the list.
                unsafe { list.push(waiter) };
            }
            list.mark(1, 10);
            remove(&mut list, &b, false);
            assert_eq!(b.settle(monitors[1].ledger(), None, 50), None);
            remove(&mut list, &a, false);
            assert_eq!(a.settle(monitors[0].ledger(), None, 50), Some(40));
            assert_eq!(monitors.each_ref().map(|it| it.ledger().waiters()), [0, 0]);
        }
    }

    #[test]
    fn those_of_another_process_are_forgotten() {
        with_three(true, |list, ledger, _| {
            *list = list.without_waiters();
            assert_eq!((list.mark(usize::MAX, 10), ledger.waiters()), (0, 0));
            assert!(list.tells);
        });
    }

    #[test]
    fn any_may_leave_first() {
        with_three(true, |list, _, [a, b, c]| {
            remove(list, b, true);
            remove(list, c, true);
            assert_eq!(list.walk(list.first, |w| &w.next).count(), 1);
            remove(list, a, true);
            assert!(list.first.is_null() && list.last.is_null());
        });
    }
}
