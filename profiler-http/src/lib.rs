//! Serves the profiles of [`profiler_core`] under `/debug/pprof/`, as Go's `net/http/pprof` does.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = profiler_http::serve("127.0.0.1:0")?; // in production, say 127.0.0.1:6060
//!
//! // What `curl http://127.0.0.1:6060/debug/pprof/cmdline` does:
//! let mut client = std::net::TcpStream::connect(endpoint.local_addr().unwrap())?;
//! client.write_all(b"GET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"));
//! # Ok(())
//! # }
//! ```
//!
//! Then `go tool pprof -top http://127.0.0.1:6060/debug/pprof/mutex` names who holds the locks that
//! others wait for, `heap` in its place names what is alive and where it was allocated, and a browser
//! at `http://127.0.0.1:6060/` shows what else there is.
//!
//! `heap` and `allocs` need the program's global allocator to be a
//! [`ProfiledAllocator`](profiler_core::ProfiledAllocator); without it they answer 501 with the lines
//! to add. The page in the browser shows what Rust holds beside what is resident, to tell a leak from
//! the memory of C code and from fragmentation.
//!
//! # What it guarantees
//!
//! - **It answers when the application cannot.** [`serve`] has threads of its own and no runtime,
//!   so a deadlock or a blocked executor can be looked at.
//! - **It never blocks the application.** [`service`] collects on threads of its own too, so it can
//!   be mounted in the application's server.
//! - **It is closed by default.** [`serve`] takes loopback addresses only and refuses foreign names
//!   in `Host` and fetches by foreign pages; everything else needs an [`Access`].
//! - **It is bounded**: 16 connections, 8 collections at one time, `seconds` up to 3600, 16 KiB of
//!   headers, 1 MiB of body, and a deadline for every client. What is too much is answered so.
//! - **It never panics**, and no error of a client or of the system reaches the application.
//!
//! It is no web server: each connection carries one request, and there is no TLS. Where profiles
//! leave the machine, put it behind something that encrypts.
//!
//! # Daemons
//!
//! A fork copies one thread, so an endpoint stays with the process that opened it. In the child its sockets are closed, so that clients
//! are refused, and not kept waiting, when the parent has ended. A service that becomes a daemon calls [`serve`] in the child,
//! when it is one; if it has called it before, it may call it again. The address is in use for as long as the parent
//! serves there. [`Endpoint::shutdown`] of the parent's endpoint does nothing in a child.
//!
//! The sockets are closed by a handler of `fork`. After `_Fork`, or a fork by the system call, there is none: then they are closed by the
//! child's first [`serve`] or [`Endpoint::shutdown`], and until then its parent's clients may be kept waiting once that has ended.
//!
//! # Endpoints
//!
//! All stand under `/debug/pprof/` and take GET and HEAD; `symbol` takes POST too.
//!
//! | path | what it gives |
//! |---|---|
//! | (nothing) | a page with everything there is |
//! | `mutex`, `block`, `heap`, `allocs`, `goroutine`, `spans`, `threadcreate`, `profile`, `wall`, … | every [`Kind`](profiler_core::Kind), and custom profiles by their names |
//! | `/debug/fgprof` | the same as `wall` |
//! | `cmdline` | the command line, arguments separated by NUL |
//! | `symbol` | names for addresses |
//!
//! | parameter | meaning |
//! |---|---|
//! | `debug=1` | text for people, of `profile` and `wall` too; `goroutine?debug=2` shows each thread by itself |
//! | `seconds=N` | what comes in the next N seconds; of `heap` what grew, or shrank |
//! | `hz=N` | samples a second of `profile` and `wall`, 1 to 10,000 (100) |
//! | `threads=all` | `goroutine` only: the stack of every thread as it is now; interrupts each |
//! | `idle=1` | `wall` only: threads of pools that wait for work too |
//! | `gc=1` | `heap` only: the allocator first gives unused memory back, by [`release_memory`](profiler_core::release_memory) |
//! | `stack=native`, `logical` | the machine's stack, or the path of profiled functions and spans |
//! | `labels=span,thread,acquired_at,state,wait` or `all` | labels that are not shown by default |
//! | `symbols=dwarf`, `table`, `none` | where names come from |
//!
//! # Environment
//!
//! | variable | meaning |
//! |---|---|
//! | `PROFILER_DISABLED` | 1 or true: [`serve`] opens nothing and starts nothing, [`service`] answers 503; 0 or false: as if not set |
//! | `PROFILER_ADDR` | the address to listen on, instead of the program's; one that other machines can reach needs a token |
//! | `PROFILER_TOKEN` | a token that every request must show, instead of the program's |
//! | `PROFILER_TOKEN_FILE` | the same, read from a file |
//!
//! What the profiler itself takes from the environment stands at
//! [`Config::from_env`](profiler_core::Config::from_env). A value that cannot be used is an error
//! that names those that can.
//!
//! ```sh
//! PROFILER_ADDR=0.0.0.0:6060 PROFILER_TOKEN=sesame ./shop
//! go tool pprof -top http://:sesame@shop:6060/debug/pprof/mutex
//! curl --oauth2-bearer sesame 'http://shop:6060/debug/pprof/goroutine?debug=2'
//! ```

#![allow(
    clippy::result_large_err,
    reason = "the error is the response to a refused request: one a request, boxing saves nothing"
)]

mod access;
mod body;
mod bound;
mod endpoint;
mod environment;
mod error;
mod index;
mod job;
mod memory;
mod params;
mod path;
mod percent;
mod respond;
mod response;
mod server;
mod service;
mod symbol;
mod token;
mod workers;

pub use access::Access;
pub use body::Body;
pub use endpoint::{Endpoint, serve, serve_with};
pub use error::ServeError;
pub use service::{ResponseFuture, Service, service};
