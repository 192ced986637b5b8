use super::*;
use crate::encode::testing::check_cut;

#[track_caller]
fn check(stack: &[&str], left: &[&str]) {
    check_cut(stack, left, |lines| {
        cut(lines.iter().map(|lines| lines.iter().map(|name| Role::of(name))))
    });
}

const CAPTURE: &[&str] = &[
    "profiler_core::sys::arch::registers | profiler_core::stack::capture | profiler_core::capture::find",
    "profiler_core::capture::Prepared::new | profiler_core::capture::alloc::live::begin",
    "profiler_core::capture::alloc::ProfiledAllocator<A>::alloc_slow",
];
const SHIM: &str = "<profiler_core::capture::alloc::ProfiledAllocator<A> as core::alloc::global::GlobalAlloc>::alloc | __rustc::__rust_alloc";
const REQUEST: &str = "alloc::alloc::alloc | <alloc::alloc::Global>::alloc_impl | <alloc::alloc::Global as core::alloc::Allocator>::allocate";

/// Checks what is left of a stack of which all above the allocator is given: in a debug build, where all has a frame, and in an
/// optimised one, where the shim has none.
#[track_caller]
fn check_above(stack: &[&str], left: &[&str]) {
    let request: Vec<&str> = REQUEST.split(" | ").collect();
    let shim: Vec<&str> = SHIM.split(" | ").collect();
    check(&[CAPTURE, &shim, &request, stack].concat(), left);
    check(&[CAPTURE, &[REQUEST], stack].concat(), left);
    if let [first, rest @ ..] = stack {
        let inlined = format!("{SHIM} | {REQUEST} | {first}");
        check(&[CAPTURE, &[&inlined], rest].concat(), left);
    }
}

#[test]
fn the_leaf_is_what_the_caller_called() {
    for called in [
        // A vector, a string, a box and an Arc.
        &[
            "alloc::raw_vec::RawVecInner<A>::finish_grow",
            "alloc::raw_vec::RawVecInner<A>::grow_one | alloc::raw_vec::RawVec<T,A>::grow_one",
            "alloc::vec::Vec<T,A>::push_mut | alloc::vec::Vec<T,A>::push",
        ][..],
        &[
            "alloc::raw_vec::RawVec<T,A>::with_capacity_in | alloc::vec::Vec<T,A>::with_capacity_in | <T as alloc::slice::<impl [T]>::to_vec_in::ConvertVec>::to_vec",
            "alloc::slice::<impl [T]>::to_vec_in | alloc::slice::<impl alloc::borrow::ToOwned for [T]>::to_owned | <str as alloc::borrow::ToOwned>::to_owned | <alloc::string::String as core::convert::From<&str>>::from",
        ],
        &["alloc::boxed::box_new_uninit | alloc::boxed::Box<T>::new"],
        &["alloc::boxed::box_new_uninit | alloc::boxed::Box<T>::new | alloc::sync::Arc<T>::new"],
        // Maps.
        &[
            "hashbrown::raw::alloc::inner::do_alloc | hashbrown::raw::RawTableInner::new_uninitialized",
            "hashbrown::raw::RawTable<T,A>::reserve | hashbrown::map::HashMap<K,V,S,A>::insert",
            "std::collections::hash::map::HashMap<K,V,S,A>::insert",
        ],
        &[
            "<allocator_api2::stable::alloc::global::Global as allocator_api2::stable::alloc::Allocator>::allocate",
            "hashbrown::raw::RawTable<T,A>::reserve_rehash",
            "hashbrown::map::HashMap<K,V,S,A>::insert",
        ],
        &[
            "alloc::boxed::Box<T,A>::try_new_uninit_in | alloc::collections::btree::node::NodeRef<Owned,K,V,Internal>::push_internal_level::{{closure}} | alloc::collections::btree::mem::replace",
            "alloc::collections::btree::map::entry::VacantEntry<K,V,A>::insert | alloc::collections::btree::map::BTreeMap<K,V,A>::insert",
        ],
        // Through a reference to the allocator, and through `core`.
        &[
            "<&A as core::alloc::Allocator>::allocate",
            "alloc::boxed::Box<T,A>::new_uninit_in",
            "alloc::collections::linked_list::LinkedList<T,A>::push_back",
        ],
        &[
            "alloc::vec::Vec<T,A>::reserve | <alloc::string::String as core::fmt::Write>::write_str",
            "core::fmt::write",
            "alloc::fmt::format::format_inner | alloc::fmt::format::{{closure}} | core::option::Option<T>::map_or_else | alloc::fmt::format",
        ],
        &[
            "alloc::vec::Vec<T>::with_capacity | <alloc::vec::Vec<T> as core::slice::sort::stable::BufGuard<T>>::with_capacity",
            "core::slice::sort::stable::driftsort_main",
            "alloc::slice::<impl [T]>::sort",
        ],
        // The whole name of an instance, with user's types in it.
        &[
            "<alloc::vec::Vec<shop::Item>>::with_capacity_in | <shop::Item as alloc::slice::hack::ConvertVec>::to_vec",
            "<shop::Item as <[_]>::to_vec_in::ConvertVec>::to_vec::<alloc::alloc::Global> | <[shop::Item]>::to_vec",
        ],
        &["alloc::str::convert_while_ascii | <str>::to_uppercase"],
        // Names from their files.
        &[
            "alloc::alloc::allocate | alloc::raw_vec::grow_one<alloc::alloc::Global>",
            "alloc::vec::push_mut<usize, alloc::alloc::Global> | alloc::vec::push<usize, alloc::alloc::Global>",
        ],
    ] {
        let outermost = called.last().and_then(|lines| lines.rsplit(" | ").next()).unwrap();
        check_above(&[called, &["shop::f", "main"]].concat(), &[outermost, "shop::f", "main"]);
        let inlined = [called[called.len() - 1], " | shop::f"].concat();
        let stack = [&called[..called.len() - 1], &[&inlined, "main"]].concat();
        check_above(&stack, &[&format!("{outermost} | shop::f"), "main"]);
    }
}

#[test]
fn what_was_handed_to_core_is_the_leaf() {
    let to_owned = "alloc::slice::<impl [T]>::to_vec | <str as alloc::borrow::ToOwned>::to_owned";
    let rest = [
        "core::ops::function::FnMut::call_mut | <core::iter::adapters::map::Map<I,F> as core::iter::traits::iterator::Iterator>::next",
        "<alloc::vec::Vec<T> as core::iter::traits::collect::FromIterator<T>>::from_iter | core::iter::traits::iterator::Iterator::collect",
        "shop::f",
    ];
    let left = ["<str as alloc::borrow::ToOwned>::to_owned", rest[0], rest[1], rest[2]];
    check_above(&[&[to_owned], &rest[..]].concat(), &left);
    check_above(&rest[1..], &rest[1..]);
    // `From` by another name.
    let from = "<alloc::string::String as core::convert::From<&str>>::from";
    for into in [
        "<T as core::convert::Into<U>>::into",
        "<alloc::string::String as core::convert::Into<shop::T>>::into",
    ] {
        check_above(&[to_owned, from, into, "shop::f"], &[from, into, "shop::f"]);
    }
}

#[test]
fn a_boxed_function_is_the_callers_choice_too() {
    let call = "<alloc::boxed::Box<dyn core::ops::function::FnOnce()> as core::ops::function::FnOnce<()>>::call_once";
    let stack = ["alloc::vec::Vec<T>::with_capacity", call, "shop::f"];
    check_above(&stack, &stack);
}

#[test]
fn a_request_is_never_the_leaf_even_if_what_was_called_left_no_trace() {
    for request in [
        "alloc::raw_vec::RawVec<T,A>::grow_one",
        "<alloc::raw_vec::RawVecInner>::try_allocate_in",
        "hashbrown::raw::RawTable<T,A>::reserve_rehash",
        "alloc::alloc::exchange_malloc",
        "alloc::alloc::realloc",
    ] {
        check_above(&[request, "shop::f", "main"], &["shop::f", "main"]);
        check_above(&[request, "core::iter::fold", "shop::f"], &["core::iter::fold", "shop::f"]);
    }
}

#[test]
fn the_callers_functions_between_stay() {
    let write_str = "<alloc::string::String as core::fmt::Write>::write_str";
    let rest = [
        "core::fmt::write",
        "<shop::Item as core::fmt::Display>::fmt",
        "alloc::fmt::format",
        "shop::f",
    ];
    check_above(
        &[&["alloc::vec::Vec<T,A>::reserve", write_str], &rest[..]].concat(),
        &[&[write_str], &rest[..]].concat(),
    );
    let clone = [
        "<alloc::string::String as core::clone::Clone>::clone",
        "<shop::Item as core::clone::Clone>::clone",
        "<alloc::vec::Vec<T,A> as core::clone::Clone>::clone",
        "shop::f",
    ];
    check_above(&clone, &clone);
}

#[test]
fn who_asks_the_allocator_himself_is_the_leaf() {
    check_above(&["shop::f", "main"], &["shop::f", "main"]);
    check(&[CAPTURE, &["<profiler_core::capture::alloc::ProfiledAllocator<A> as core::alloc::global::GlobalAlloc>::alloc | shop::f", "main"]].concat(), &["shop::f", "main"]);
    check(&[CAPTURE, &["<profiler_core::capture::alloc::ProfiledAllocator<A> as core::alloc::global::GlobalAlloc>::realloc", "shop::f"]].concat(), &["shop::f"]);
}

#[test]
fn names_that_merely_look_like_an_allocators_stay() {
    for name in [
        "alloc_x::alloc::alloc",
        "alloc_counter::Counter::push",
        "shop::alloc::alloc",
        "shop::raw_vec::RawVec<T>::grow",
        "<shop::Pool as shop::GlobalAlloc>::alloc",
        "<shop::Arena as core::alloc::global::GlobalAlloc>::alloc",
        "<shop::Arena as core::alloc::Allocator>::allocate",
        "<alloc::vec::Vec<T> as shop::Grow>::grow",
        "<shop::Buffer as std::io::Write>::write",
        "<dyn shop::Animal>::feed",
        "hashbrown_extra::raw::f",
        "bumpalo::Bump::alloc",
    ] {
        check_above(&[name, "shop::f"], &[name, "shop::f"]);
        check_above(
            &[
                "alloc::raw_vec::RawVec<T,A>::grow_one",
                "alloc::vec::Vec<T,A>::push",
                name,
                "shop::f",
            ],
            &["alloc::vec::Vec<T,A>::push", name, "shop::f"],
        );
    }
}

#[test]
fn an_allocator_around_ours_is_part_of_the_allocator() {
    let around = [
        "shop::Counting<A>::count",
        "<shop::Counting<A> as core::alloc::global::GlobalAlloc>::alloc",
    ];
    let above = ["alloc::boxed::Box<T>::new | shop::f"];
    check(&[CAPTURE, &[SHIM], &[REQUEST], &above].concat(), &above);
    check(&[CAPTURE, &around, &["__rustc::__rust_alloc", REQUEST], &above].concat(), &above);
    check(&[CAPTURE, &around, &[REQUEST], &above].concat(), &above);
    // But what it allocates for itself is its own.
    let own = ["alloc::vec::Vec<T,A>::push", around[1], "__rustc::__rust_alloc", REQUEST, above[0]];
    check(&[CAPTURE, &[REQUEST], &own].concat(), &own);
    check(&[CAPTURE, &own].concat(), &own);
}

#[test]
fn the_profilers_own_allocations_are_shown() {
    let own = [
        "alloc::vec::Vec<T,A>::push",
        "profiler_core::profile::symbolize::Resolver::resolve",
        "shop::f",
    ];
    check_above(&own, &own);
    let own = [
        "alloc::boxed::Box<T>::new | profiler_core::labels::intern::Table::intern",
        "profiler_core::capture::labels::put",
        "shop::f",
    ];
    check_above(&own, &own);
}

#[test]
fn nobody_called_what_sets_up_a_thread_so_all_of_it_stays() {
    let thread = [
        "<alloc::boxed::Box<str> as core::convert::From<&str>>::from | std::sys::pal::unix::stack_overflow::thread_info::set_current_info",
        "<std::sys::pal::unix::stack_overflow::Handler>::new | <std::sys::thread::unix::Thread>::new::thread_start",
        "-",
    ];
    check_above(&thread, &thread);
    let program = [
        "alloc::sync::Arc<T>::new",
        "std::rt::init",
        "std::rt::lang_start",
        "main",
        "__libc_start_call_main",
    ];
    check_above(&program, &program);
}

#[test]
fn a_frame_without_a_name_may_be_anybodys() {
    let own = ["-", "alloc::vec::Vec<T,A>::push", "shop::f"];
    check(&[CAPTURE, &[SHIM], &own].concat(), &own);
    let own = ["alloc::vec::Vec<T,A>::push", "-", "std::thread::spawn", "shop::f"];
    check(&[CAPTURE, &[SHIM], &own].concat(), &own);
    let own = ["alloc::fmt::format::{{closure}}", "-", "alloc::fmt::format", "shop::f"];
    check(&[CAPTURE, &[SHIM], &own].concat(), &own);
}

#[test]
fn all_stays_if_all_would_go() {
    let own = [CAPTURE, &[SHIM, REQUEST]].concat();
    check(&own, &own);
    check(&["-", "-"], &["-", "-"]);
    check(&["shop::f"], &["shop::f"]);
    check(&[], &[]);
}

proptest::proptest! {
    #[test]
    fn any_name_has_a_role(name in "[<>a-z:& \\[{]{0,30}|\\PC{0,20}") {
        let _ = Role::of(&name);
    }
}
