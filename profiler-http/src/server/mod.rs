//! The server: HTTP/1.1 on threads of its own.
//!
//! It has to answer when the application cannot, so it shares nothing with the application's
//! runtime: one thread accepts, and each connection gets one for its one request, of a few that stay. All are
//! idle in the kernel until somebody asks. Threads are bounded, and so is the time of each client.

use profiler_core::__private::{OwnSocket, OwnThread, close_inherited, process_number, spawn};
use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use self::connection::Patience;
use crate::access::Guard;
use crate::workers::{STACK_SIZE, THREAD_NAME, WORKERS};

mod connection;
mod date;
mod head;
mod timed;

/// Connections that are answered at one time; further ones are told that there are too many.
const MAX_ANSWERING: usize = 16;
/// Connections of every sort, also those that are refused or take their leave; further ones are
/// closed without a word.
const MAX_CONNECTIONS: usize = 32;
/// A running server.
#[derive(Debug)]
pub(crate) struct Server {
    address: SocketAddr,
    context: Arc<Context>,
    accepting: OwnThread,
    /// The process whose threads answer: the child of a fork has a copy of this, and none of them.
    process: u32,
}

/// What all threads of a server share.
#[derive(Debug)]
struct Context {
    guard: Guard,
    patience: Patience,
    open: Mutex<Open>,
}

/// The connections that are open.
#[derive(Debug, Default)]
struct Open {
    closing: bool,
    next: u64,
    /// How many are being answered.
    answering: usize,
    /// To hang up with.
    streams: HashMap<u64, Arc<OwnSocket<TcpStream>>>,
}

impl Server {
    /// Starts to answer.
    pub(crate) fn start(listener: TcpListener, guard: Guard) -> io::Result<Self> {
        Self::start_with(listener, guard, Patience::DEFAULT)
    }

    fn start_with(listener: TcpListener, guard: Guard, patience: Patience) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let context = Arc::new(Context { guard, patience, open: Mutex::default() });
        let listener = OwnSocket::listener(listener);
        let accepting = spawn(THREAD_NAME, STACK_SIZE, {
            let context = Arc::clone(&context);
            move || accept(&listener, &context)
        })?;
        Ok(Self { address, context, accepting, process: process_number() })
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hangs up on every client and gives the port back. Returns whether it was this process's: what the child of a fork
    /// has of its parent's it gives back, and leaves the parent and its clients alone.
    pub(crate) fn stop(self) -> bool {
        if self.process != process_number() {
            close_inherited();
            return false;
        }
        {
            let mut open = self.context.open();
            open.closing = true;
            for stream in open.streams.values() {
                // A client that has gone already needs no goodbye.
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
        // A connection is what wakes the thread that waits for one. Should it fail, the next one
        // from elsewhere will do.
        if TcpStream::connect_timeout(&reachable(self.address), Duration::from_secs(1)).is_ok() {
            self.accepting.join();
        }
        true
    }
}

impl Context {
    fn open(&self) -> MutexGuard<'_, Open> {
        // Nothing can panic between two changes that belong together.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn accept(listener: &TcpListener, context: &Arc<Context>) {
    loop {
        let accepted = listener.accept();
        if context.open().closing {
            return;
        }
        match accepted {
            // Whatever fails here costs this client its connection, and nothing else.
            Ok((stream, _)) => drop(welcome(OwnSocket::stream(stream), context)),
            // Out of file descriptors, most likely: it would fail again at once.
            Err(_) => thread::sleep(Duration::from_millis(100)),
        }
    }
}

fn welcome(stream: OwnSocket<TcpStream>, context: &Arc<Context>) -> io::Result<()> {
    let stream = Arc::new(stream);
    let Some(mut entry) = Entry::new(&stream, context) else { return Ok(()) };
    stream.set_nodelay(true)?;
    WORKERS.run(move || {
        let answered = if entry.answering {
            connection::answer(&stream, &entry.context)
        } else {
            connection::refuse(&stream, &entry.context)
        };
        // Before the client learns that it was answered, so that its next request finds room.
        entry.answered();
        // An error of the socket means that the client has gone: there is nobody to tell.
        drop(answered.and_then(|()| connection::part(&stream, entry.context.patience.goodbye)));
    })
}

/// A connection's line in the list, taken out when the connection ends in whatever way.
struct Entry {
    context: Arc<Context>,
    number: u64,
    answering: bool,
}

impl Entry {
    /// Enters a connection, if there is room for one more.
    fn new(stream: &Arc<OwnSocket<TcpStream>>, context: &Arc<Context>) -> Option<Self> {
        let mut open = context.open();
        if open.closing || open.streams.len() >= MAX_CONNECTIONS {
            return None;
        }
        let number = open.next;
        open.next += 1;
        open.streams.insert(number, Arc::clone(stream));
        let answering = open.answering < MAX_ANSWERING;
        open.answering += usize::from(answering);
        Some(Self { context: Arc::clone(context), number, answering })
    }

    /// The connection remains, but only to take its leave.
    fn answered(&mut self) {
        if std::mem::take(&mut self.answering) {
            self.context.open().answering -= 1;
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.answered();
        self.context.open().streams.remove(&self.number);
    }
}

/// Returns an address under which this machine can reach a listener.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::LOCALHOST),
        });
    }
    address
}

#[cfg(test)]
mod tests;
