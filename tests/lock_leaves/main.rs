//! The leaf of a wait and of a charge is the function that called the lock, whatever method it called, and whatever
//! the method is made of: nothing of the profiler, of `lock_api`, of what that uses, or of the library's ways to drop
//! a value.

#![allow(unsafe_code, reason = "unlocking by force is unsafe")]

mod mutex;
mod rwlock;
mod std_locks;

use std::sync::Once;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use profiler_core::{Config, Kind, Rates, Sample, Symbols, default_view, snapshot_with};
use profiler_tests::parked::ThreadId;

/// What the function of a case does with a lock, and so what the other thread does meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    /// Releases the lock while another thread waits for it.
    Holds,
    /// Waits for the lock while another thread holds it.
    Waits,
    /// Gives the lock up, to another thread, and waits until it has it again.
    WaitsAgain,
    /// Waits on a condition variable.
    IsNotified,
}

/// A function that calls one method.
struct Case<L> {
    name: &'static str,
    role: Role,
    body: fn(&L, &Step),
}

/// Makes the list of cases: a function each, which is not inlined and does not end in a jump.
macro_rules! cases {
    ($type:ty; $($role:ident $name:ident($lock:ident, $step:tt) $body:block)*) => {
        $(
            #[inline(never)]
            fn $name($lock: &$type, $step: &$crate::Step) {
                $body
                profiler_tests::keep!();
            }
        )*

        const CASES: &[$crate::Case<$type>] = &[$($crate::Case {
            name: stringify!($name),
            role: $crate::Role::$role,
            body: $name,
        }),*];
    };
}
use cases;

/// How two threads wait for each other.
struct Step {
    other: Sender<ThreadId>,
    said: Receiver<ThreadId>,
}

impl Step {
    /// Says something, and waits for the answer.
    fn ask(&self) -> ThreadId {
        self.say();
        self.hear()
    }

    fn say(&self) {
        self.other.send(ThreadId::current()).expect("the other listens");
    }

    fn hear(&self) -> ThreadId {
        self.said.recv().expect("the other says something")
    }

    /// Called with the lock: lets the other thread ask for it, and returns when it waits.
    fn held(&self) {
        self.ask().wait_until_parked();
    }

    /// Called without the lock: returns when the other thread has it, which keeps it until this one waits.
    fn lent(&self) {
        self.ask();
    }
}

/// What the other thread does.
struct Peer<L> {
    /// Waits for the lock.
    waits: fn(&L),
    /// Takes the lock, calls what it is given, and releases it.
    holds: fn(&L, &dyn Fn()),
    /// Takes the lock, changes what is waited for, and notifies.
    notifies: fn(&L),
}

/// Runs a case, and the other thread's part.
fn run<L: Sync>(lock: &L, case: &Case<L>, peer: &Peer<L>) {
    let ((other, heard), (say, said)) = (mpsc::channel(), mpsc::channel());
    let (here, there) = (Step { other, said }, Step { other: say, said: heard });
    thread::scope(|scope| {
        scope.spawn(move || {
            if case.role == Role::Waits {
                here.hear();
                here.say();
            } else if case.role == Role::IsNotified {
                here.say();
            }
            (case.body)(lock, &here);
        });
        scope.spawn(move || match case.role {
            Role::Holds => {
                there.hear();
                there.say();
                (peer.waits)(lock);
            }
            Role::Waits => (peer.holds)(lock, &|| there.held()),
            Role::WaitsAgain => {
                let waiter = there.hear();
                (peer.holds)(lock, &|| {
                    there.say();
                    waiter.wait_until_parked();
                });
            }
            Role::IsNotified => {
                there.hear().wait_until_parked();
                (peer.notifies)(lock);
            }
        });
    });
}

/// Runs all cases, each with a lock of its own name, and asserts that each is the leaf of what it did, and that there is no
/// other leaf but the other thread's functions.
#[track_caller]
fn check<L: Sync>(cases: &[Case<L>], named: fn(&'static str) -> L, peer: &Peer<L>) {
    let wrong = wrong_leaves(cases, named, peer);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Returns a sentence for each case that is no leaf, and for each other leaf.
fn wrong_leaves<L: Sync>(
    cases: &[Case<L>],
    named: fn(&'static str) -> L,
    peer: &Peer<L>,
) -> Vec<String> {
    static START: Once = Once::new();
    START.call_once(|| {
        profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    });
    for case in cases {
        run(&named(case.name), case, peer);
    }
    let mut wrong = Vec::new();
    // With what is known of inlined calls, and without.
    let asked = [Symbols::Dwarf, Symbols::SymbolTable]
        .into_iter()
        .flat_map(|symbols| [(Kind::Block, symbols), (Kind::Mutex, symbols)]);
    for (kind, symbols) in asked {
        let view = default_view().symbols(symbols);
        let profile = snapshot_with(kind, view).expect("it is available");
        for case in cases {
            let is_its = |name: &str| is_in(name, case.name);
            let samples: Vec<Sample<'_>> = profile
                .samples()
                .filter(|sample| sample.label("lock") == Some(case.name))
                .collect();
            for sample in &samples {
                let leaf = leaf(sample);
                let is_peers = ["peer_waits", "peer_holds", "peer_notifies"];
                if leaf != "[handoff]"
                    && !is_its(&leaf)
                    && !is_peers.iter().any(|peer| is_in(&leaf, peer))
                {
                    wrong.push(format!("{kind} of {}, {symbols:?}: {leaf}", case.name));
                }
            }
            let shown_in = if case.role == Role::Holds { Kind::Mutex } else { Kind::Block };
            if kind == shown_in && !samples.iter().any(|sample| is_its(&leaf(sample))) {
                let leaves: Vec<_> = samples.iter().map(leaf).collect();
                wrong.push(format!(
                    "{kind}, {symbols:?}: {} is no leaf among {leaves:?}",
                    case.name
                ));
            }
        }
    }
    wrong
}

fn leaf(sample: &Sample<'_>) -> String {
    let frame = sample.frames().next().expect("a stack");
    frame.function.map_or_else(|| format!("{:#x}", frame.address), str::to_owned)
}

/// Returns whether a name is a function of this program, or a closure in it.
fn is_in(name: &str, function: &str) -> bool {
    let ours = name.strip_prefix("lock_leaves::");
    ours.is_some_and(|rest| rest.split("::").any(|part| part == function))
}
