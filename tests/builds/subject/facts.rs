//! What the process knows of itself, by other ways than the profiler's.

use std::ffi::{c_int, c_void};
use std::fmt::{Display, Write};
use std::mem::MaybeUninit;
use std::ptr;

/// Lines of `name value`.
#[derive(Debug, Default)]
pub(crate) struct Facts(String);

impl Facts {
    pub(crate) fn add(&mut self, name: &str, value: impl Display) {
        writeln!(self.0, "{name} {value}").expect("a string");
    }

    /// Adds the return addresses of a stack, innermost first.
    pub(crate) fn add_stack(&mut self, name: &str, addresses: &[u64]) {
        let addresses: Vec<_> = addresses.iter().map(|address| format!("{address:x}")).collect();
        self.add(name, addresses.join(" "));
    }

    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

#[repr(C)]
struct UnwindContext {
    _private: [u8; 0],
}

unsafe extern "C" {
    fn _Unwind_Backtrace(
        visit: extern "C" fn(*mut UnwindContext, *mut c_void) -> c_int,
        argument: *mut c_void,
    ) -> c_int;
    fn _Unwind_GetIP(context: *mut UnwindContext) -> usize;
}

/// Returns the return addresses of the callers, as libgcc sees them, innermost first.
#[inline(never)]
pub(crate) fn stack() -> Vec<u64> {
    extern "C" fn visit(context: *mut UnwindContext, addresses: *mut c_void) -> c_int {
        // SAFETY: libgcc passes its own context.
        let address = unsafe { _Unwind_GetIP(context) };
        // SAFETY: this is the exclusive reference passed below.
        let addresses = unsafe { &mut *addresses.cast::<Vec<u64>>() };
        // libgcc counts the end of the stack as a frame without an address.
        if address != 0 {
            addresses.push(address as u64);
        }
        0
    }
    let mut addresses = Vec::new();
    // SAFETY: the function takes what is passed with it, and does not unwind.
    unsafe { _Unwind_Backtrace(visit, (&raw mut addresses).cast()) };
    addresses
}

/// A thread that no Rust code creates.
#[derive(Debug)]
pub(crate) struct Thread(libc::pthread_t);

type Body = fn() -> Vec<u64>;

#[inline(never)]
extern "C" fn of_c(body: *mut c_void) -> *mut c_void {
    // SAFETY: `start` has passed it, and nobody else has it.
    let body = unsafe { Box::from_raw(body.cast::<Body>()) };
    Box::into_raw(Box::new(body())).cast()
}

impl Thread {
    pub(crate) fn start(body: Body) -> Self {
        let mut thread = MaybeUninit::uninit();
        let body = Box::into_raw(Box::new(body)).cast();
        // SAFETY: the function is of the type that is asked for, and takes what is passed with it.
        let made = unsafe { libc::pthread_create(thread.as_mut_ptr(), ptr::null(), of_c, body) };
        assert_eq!(made, 0);
        // SAFETY: written above.
        Self(unsafe { thread.assume_init() })
    }

    /// Returns what the thread's body returned.
    pub(crate) fn join(self) -> Vec<u64> {
        let mut result = ptr::null_mut();
        // SAFETY: joined once.
        assert_eq!(unsafe { libc::pthread_join(self.0, &raw mut result) }, 0);
        // SAFETY: `of_c` has returned it, and nobody else has it.
        *unsafe { Box::from_raw(result.cast()) }
    }
}
