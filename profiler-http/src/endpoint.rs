//! Opening an endpoint: addresses, access, and that there is one.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::panic::Location;
use std::sync::MutexGuard;

use profiler_core::__private::{PerProcess, close_inherited};

use crate::access::{Access, Guard};
use crate::environment::{Environment, address_error, address_not_guarded};
use crate::error::{ServeError, start_profiler};
use crate::path::ROOT;
use crate::server::Server;

/// The endpoint that runs, if one does; a parent's does not in the child of a fork.
static RUNNING: PerProcess<Option<Running>> = PerProcess::new(|| None);

#[derive(Debug, Clone, Copy)]
struct Running {
    address: SocketAddr,
    first: &'static Location<'static>,
}

/// Serves the profiles under `http://ADDRESS/debug/pprof/`, to this machine only.
///
/// The profiler is started with [`Config::from_env()`](profiler_core::Config::from_env), unless it
/// runs already. Port 0 takes a free one; [`Endpoint::local_addr`] tells which. For an address that
/// other machines can reach, see [`serve_with`].
///
/// # Errors
///
/// The address is not a loopback address, is in use or cannot be resolved; an endpoint runs
/// already; an environment variable cannot be used (see the [crate's documentation](crate)).
#[track_caller]
pub fn serve(address: impl ToSocketAddrs) -> Result<Endpoint, ServeError> {
    open(&mut || resolve(&address), None)
}

/// Serves the profiles as [`serve`] does, on any address, to those whom `access` lets in.
///
/// On a loopback address the `Host` header must name this machine all the same.
///
/// # Errors
///
/// As for [`serve`], but for the address; and a token that no request can show.
#[track_caller]
pub fn serve_with(address: impl ToSocketAddrs, access: Access) -> Result<Endpoint, ServeError> {
    open(&mut || resolve(&address), Some(access))
}

/// An endpoint that has been opened.
///
/// Dropping it leaves the endpoint running, so a program that serves until its end may ignore it.
#[derive(Debug)]
pub struct Endpoint {
    /// Nothing if `PROFILER_DISABLED=1`.
    server: Option<Server>,
}

impl Endpoint {
    /// Returns the address it listens on, or nothing if `PROFILER_DISABLED=1`.
    #[must_use]
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.server.as_ref().map(Server::address)
    }

    /// Returns the address of the index page, or nothing if `PROFILER_DISABLED=1`.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.local_addr().map(|address| format!("http://{address}{ROOT}"))
    }

    /// Hangs up on every client and gives the port back; [`serve`] may be called again. What the
    /// profiler records stays, and recording goes on.
    ///
    /// In the child of a fork the endpoint of its parent is closed already: there this does nothing, and the parent's
    /// goes on.
    pub fn shutdown(self) {
        if self.server.is_some_and(Server::stop) {
            *running() = None;
        }
    }
}

fn running() -> MutexGuard<'static, Option<Running>> {
    RUNNING.lock()
}

#[track_caller]
fn open(
    addresses: &mut dyn FnMut() -> io::Result<Vec<SocketAddr>>,
    access: Option<Access>,
) -> Result<Endpoint, ServeError> {
    let Environment::Enabled { address, token } = Environment::read()? else {
        return Ok(Endpoint { server: None });
    };
    let anywhere = access.is_some();
    let token = match access {
        Some(access) => token.or(access.into_token()?),
        None => token,
    };

    // Held until the end, so that of two calls at one time the second sees the first.
    let mut running = running();
    if let Some(Running { address, first }) = *running {
        return Err(ServeError::AlreadyServing { address, first });
    }
    let addresses = match address {
        Some(text) => {
            let addresses = resolve(&text).map_err(|error| {
                address_error(&format!("is {text:?}, which cannot be used ({error})"))
            })?;
            if token.is_none() && first_open(&addresses).is_some() {
                return Err(address_not_guarded(&text));
            }
            addresses
        }
        None => {
            let addresses = addresses().map_err(ServeError::Address)?;
            match first_open(&addresses) {
                Some(address) if !anywhere => return Err(ServeError::NotLoopback(address)),
                _ => addresses,
            }
        }
    };
    // Of a parent's endpoint, where the fork has called no handler: or the address would be in use.
    close_inherited();
    let (listener, address) = bind(&addresses)?;
    let guard = Guard { token, loopback: is_loopback(address) };
    start_profiler()?;
    let server = Server::start(listener, guard).map_err(ServeError::Thread)?;
    *running = Some(Running { address, first: Location::caller() });
    Ok(Endpoint { server: Some(server) })
}

fn resolve(address: &impl ToSocketAddrs) -> io::Result<Vec<SocketAddr>> {
    let addresses: Vec<_> = address.to_socket_addrs()?.collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name leads to no address"));
    }
    Ok(addresses)
}

/// Returns the first address that other machines can reach.
fn first_open(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    addresses.iter().copied().find(|&address| !is_loopback(address))
}

fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

/// Listens on the first address that exists.
///
/// One that is in use is an error: the other address of `localhost` would do, but then tools that
/// try the first would talk to another program.
fn bind(addresses: &[SocketAddr]) -> Result<(TcpListener, SocketAddr), ServeError> {
    let mut last = None;
    for &address in addresses {
        match TcpListener::bind(address).and_then(|it| Ok((it.local_addr()?, it))) {
            Ok((bound, listener)) => return Ok((listener, bound)),
            Err(error) => {
                let in_use = error.kind() == io::ErrorKind::AddrInUse;
                last = Some(ServeError::Bind { address, error });
                if in_use {
                    break;
                }
            }
        }
    }
    Err(last.unwrap_or_else(|| ServeError::Address(io::ErrorKind::NotFound.into())))
}
