//! Where nothing native is known no process is forked.

use std::net::{TcpListener, TcpStream};
use std::ops::Deref;

/// A socket that is this process's alone.
#[derive(Debug)]
pub struct OwnSocket<S>(S);

impl OwnSocket<TcpListener> {
    /// Has a listener closed in every child.
    #[must_use]
    pub const fn listener(socket: TcpListener) -> Self {
        Self(socket)
    }
}

impl OwnSocket<TcpStream> {
    /// Has a connection closed in every child.
    #[must_use]
    pub const fn stream(socket: TcpStream) -> Self {
        Self(socket)
    }
}

/// Closes what this process has from its parents.
pub const fn close_inherited() {}

impl<S> Deref for OwnSocket<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.0
    }
}
