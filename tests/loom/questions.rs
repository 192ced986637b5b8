//! The models of questions to threads: whoever asks reads the answer to its own question or none, and at
//! no moment have two the same place.
//!
//! What stands in a place are the model's cells, which fail where two accesses are not ordered, one of
//! them a write.

#![allow(unsafe_code, reason = "cells of the model give out pointers")]

use std::sync::atomic::{AtomicU64, Ordering};

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::sync::atomic::AtomicPtr;

use crate::buffer::question::{Question, Questions};
use crate::models::Model;
use crate::order::Order;

pub(crate) const ALL: &[Model] = &[
    ("question: one is answered or taken back, and its place used again", place_again),
    ("question: a place goes from one thread to another", another_thread),
    ("question: two ask one thread", two_askers),
    ("question: two make room", room_for_two),
];

/// The threads that are asked.
const THREAD: u32 = 7;
const OTHER: u32 = 8;

/// What stands in a place.
#[derive(Debug)]
struct Answer {
    asked: UnsafeCell<u64>,
    answer: UnsafeCell<u64>,
}

/// How many there are in this run of a model.
static PLACES: AtomicU64 = AtomicU64::new(0);

impl Default for Answer {
    fn default() -> Self {
        PLACES.fetch_add(1, Ordering::Relaxed);
        Self { asked: UnsafeCell::new(0), answer: UnsafeCell::new(0) }
    }
}

fn store(cell: &UnsafeCell<u64>, value: u64) {
    // SAFETY: the model fails first if somebody else has the cell.
    cell.with_mut(|cell| unsafe { *cell = value });
}

fn load(cell: &UnsafeCell<u64>) -> u64 {
    // SAFETY: the model fails first if somebody else writes the cell.
    cell.with(|cell| unsafe { *cell })
}

/// Questions with so many places to a chunk.
fn questions<const N: usize>() -> Arc<Questions<Answer, N>> {
    PLACES.store(0, Ordering::Relaxed);
    Arc::new(Questions::new(AtomicPtr::new(std::ptr::null_mut())))
}

fn ask<const N: usize>(
    questions: &Questions<Answer, N>,
    thread: u32,
    number: u64,
) -> Question<Answer> {
    questions.ask(thread, |place| {
        store(&place.asked, number);
        store(&place.answer, 0);
    })
}

/// Reads an answer, which must be that to this question, or takes it back.
fn read(question: Question<Answer>, number: u64) -> bool {
    let thread = u64::from(question.thread());
    let answer = question.read(|place| (load(&place.asked), load(&place.answer)));
    assert!(answer.is_none_or(|answer| answer == (number, number * thread)), "{answer:?}");
    answer.is_some()
}

/// What a handler does.
fn answer<const N: usize>(questions: &Questions<Answer, N>, thread: u32) -> bool {
    questions.answer(thread, |place| {
        store(&place.answer, load(&place.asked) * u64::from(thread));
    })
}

/// Nothing is left of any question: all places can be had, without a further one.
fn is_over<const N: usize>(questions: &Questions<Answer, N>) {
    let places = PLACES.load(Ordering::Relaxed);
    for thread in [THREAD, OTHER] {
        assert!(!answer(questions, thread), "a question is left");
    }
    let again: Vec<_> = (1..=places).map(|number| ask(questions, THREAD, number)).collect();
    assert_eq!(PLACES.load(Ordering::Relaxed), places, "a place is never free again");
    assert!(answer(questions, THREAD));
    for (question, number) in again.into_iter().zip(1..) {
        assert!(read(question, number));
    }
}

fn place_again(order: Order) {
    let questions = questions::<1>();
    let (asking, answering) = (Arc::clone(&questions), Arc::clone(&questions));
    order.run([
        Box::new(move || {
            for number in [1, 2] {
                read(ask(&asking, THREAD, number), number);
            }
        }),
        Box::new(move || {
            answer(&answering, THREAD);
            answer(&answering, THREAD);
        }),
    ]);
    is_over(&questions);
}

fn another_thread(order: Order) {
    let questions = questions::<1>();
    let asking = Arc::clone(&questions);
    let handler = |thread| -> Box<dyn FnOnce()> {
        let questions = Arc::clone(&questions);
        Box::new(move || {
            answer(&questions, thread);
        })
    };
    order.run([
        Box::new(move || {
            for (thread, number) in [(THREAD, 1), (OTHER, 2)] {
                read(ask(&asking, thread, number), number);
            }
        }),
        handler(THREAD),
        handler(OTHER),
    ]);
    is_over(&questions);
}

fn two_askers(order: Order) {
    let questions = questions::<2>();
    let answering = Arc::clone(&questions);
    let asker = |number| -> Box<dyn FnOnce()> {
        let questions = Arc::clone(&questions);
        Box::new(move || {
            read(ask(&questions, THREAD, number), number);
        })
    };
    order.run([
        asker(1),
        asker(2),
        Box::new(move || {
            answer(&answering, THREAD);
        }),
    ]);
    is_over(&questions);
}

fn room_for_two(order: Order) {
    let questions = questions::<1>();
    let [first, second] = order.run([1, 2].map(|number| -> Box<dyn FnOnce() -> _> {
        let questions = Arc::clone(&questions);
        Box::new(move || ask(&questions, THREAD, number))
    }));
    // Each has a place of its own.
    assert!(answer(&questions, THREAD));
    assert!(read(first, 1));
    assert!(read(second, 2));
    is_over(&questions);
}
