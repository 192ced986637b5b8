//! The leaf of an allocation's stack is what the program called, with this compiler's library and at
//! any level of optimisation.

#![cfg(profiler_native)]

use std::alloc::{Layout, System};
use std::collections::{BTreeMap, HashMap, HashSet, LinkedList, VecDeque};
use std::hint::black_box;
use std::rc::Rc;
use std::sync::Arc;

use profiler_core::{
    Config, Kind, Profile, ProfiledAllocator, Rates, Sample, snapshot, with_labels,
};

#[global_allocator]
static ALLOCATOR: ProfiledAllocator<System> = ProfiledAllocator::new(System);

/// What the program does, and what of it shall be the leaf.
struct Case {
    name: &'static str,
    /// Words of the leaf's name; none: the program's own function.
    leaf: &'static [&'static str],
    run: fn(),
}

macro_rules! case {
    ($name:literal, [$($leaf:literal),*], $run:expr) => {
        Case { name: $name, leaf: &[$($leaf),*], run: || { let _dropped = black_box($run); } }
    };
}

#[inline(never)]
fn number() -> usize {
    black_box(37)
}

trait Animal {
    fn legs(&self) -> usize;
}

struct Dog([u64; 5]);

impl Animal for Dog {
    fn legs(&self) -> usize {
        self.0.len() - 1
    }
}

const CASES: &[Case] = &[
    case!("push", ["vec::", "push"], {
        let mut vector = black_box(Vec::new());
        vector.push(number());
        vector
    }),
    case!("with_capacity", ["vec::", "with_capacity"], Vec::<u64>::with_capacity(number())),
    case!("reserve", ["vec::", "reserve"], {
        let mut vector = black_box(Vec::<u32>::new());
        vector.reserve(number());
        vector
    }),
    case!(
        "collect",
        ["vec::", "from_iter"],
        (0..number()).filter(|n| n % 3 == 0).collect::<Vec<_>>()
    ),
    case!("from_elem", ["vec::", "from_elem"], vec![7_u16; number()]),
    case!("push_str", ["string::", "push_str"], {
        let mut text = String::new();
        text.push_str(black_box("a text"));
        text
    }),
    case!("format", ["fmt::format"], format!("{} is a number", number())),
    case!("to_string", ["to_string"], number().to_string()),
    case!("box", ["boxed::", "new"], Box::new([number(); 3])),
    case!("box dyn", ["boxed::", "new"], {
        let animal: Box<dyn Animal> = Box::new(Dog([0; 5]));
        black_box(animal.legs());
        animal
    }),
    case!("box future", ["boxed::", "pin"], {
        let text = [number(); 9];
        Box::pin(async move { text.len() }) as std::pin::Pin<Box<dyn Future<Output = usize>>>
    }),
    case!("rc", ["rc::", "new"], Rc::new([number(); 4])),
    case!("arc", ["sync::", "new"], Arc::new([number(); 5])),
    case!("arc str", ["sync::", "from"], Arc::<str>::from(black_box("another text"))),
    case!("hash map", ["std::collections::hash::map::", "insert"], {
        let mut map = HashMap::new();
        map.insert(number(), 1);
        map
    }),
    case!("hash set", ["std::collections::hash::set::", "insert"], {
        let mut set = HashSet::new();
        set.insert(number());
        set
    }),
    case!("b-tree map", ["btree::map::", "insert"], {
        let mut map = BTreeMap::new();
        for n in 0..number() {
            map.insert(n, 1);
        }
        map
    }),
    case!("deque", ["vec_deque::", "push_back"], {
        let mut deque = VecDeque::new();
        deque.push_back(number() as u8);
        deque
    }),
    case!("list", ["linked_list::", "push_back"], {
        let mut list = LinkedList::new();
        list.push_back(number() as u16);
        list
    }),
    case!("alloc", [], {
        let layout = Layout::new::<[u64; 20]>();
        allocates(layout)
    }),
];

/// Asks the allocator itself.
#[allow(unsafe_code, reason = "to allocate by hand is unsafe")]
#[inline(never)]
fn allocates(layout: Layout) {
    // SAFETY: the layout is not of size zero.
    let block = unsafe { std::alloc::alloc(layout) };
    // SAFETY: allocated above, with this layout.
    unsafe { std::alloc::dealloc(black_box(block), layout) };
}

fn names(sample: Sample<'_>) -> Vec<String> {
    sample.frames().map(|frame| frame.function.unwrap_or("?").to_owned()).collect()
}

fn stacks<'a>(profile: &'a Profile, case: &'a str) -> impl Iterator<Item = Vec<String>> + 'a {
    profile.samples().filter(move |sample| sample.label("case") == Some(case)).map(names)
}

#[test]
fn the_leaf_is_what_was_called() {
    profiler_core::start(Config::default().rates(Rates::ALL)).expect("the first start");
    for case in CASES {
        with_labels([("case", case.name)], case.run);
    }
    // The profiler's own, of which some will do.
    profiler_core::set_rates(Rates::ALL.heap_bytes(16 << 10));
    drop(snapshot(Kind::Heap).expect("available"));
    profiler_core::set_rates(Rates::ALL.heap_bytes(0));
    let profile = snapshot(Kind::Allocs).expect("available");

    for case in CASES {
        let mut stacks = stacks(&profile, case.name).peekable();
        assert!(stacks.peek().is_some(), "{}: no allocation", case.name);
        for stack in stacks {
            let is_own = |name: &str| name.starts_with("heap_leaves::");
            let leaf = &stack[0];
            assert_eq!(is_own(leaf), case.leaf.is_empty(), "{}: {stack:#?}", case.name);
            assert!(case.leaf.iter().all(|word| leaf.contains(word)), "{}: {stack:#?}", case.name);
            assert!(stack.iter().any(|name| is_own(name)), "{}: {stack:#?}", case.name);
        }
    }

    let own =
        |stack: &Vec<String>| stack.iter().any(|name| name.starts_with("profiler_core::profile::"));
    assert!(profile.samples().map(names).any(|stack| own(&stack)), "the profiler's own are shown");
    for stack in profile.samples().map(names) {
        let below = [
            "__rust_alloc",
            "__rust_realloc",
            "__rg_",
            "GlobalAlloc",
            "alloc::alloc::",
            "raw_vec",
            "hashbrown::raw",
        ];
        let path = stack[0].split(['<', ' ']).find(|part| !part.is_empty()).unwrap_or_default();
        assert!(!below.iter().any(|word| path.contains(word)), "{stack:#?}");
        assert!(!path.starts_with("profiler_core::capture::alloc"), "{stack:#?}");
    }
}
