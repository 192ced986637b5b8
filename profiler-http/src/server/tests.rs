use std::io::{Read, Write};
use std::net::TcpListener;

use super::*;

const GUARD: Guard = Guard { token: None, loopback: true };

fn server(patience: Patience) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    Server::start_with(listener, GUARD, patience).unwrap()
}

/// Sends what stands there and returns all that comes until the server ends.
fn exchange(server: &Server, request: &str) -> String {
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    read_all(&mut client)
}

fn read_all(client: &mut TcpStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

/// Patience that is over at once for the part under test, and never for the others.
fn impatient(set: impl FnOnce(&mut Patience)) -> Patience {
    let long = Duration::from_mins(10);
    let mut patience = Patience { head: long, body: long, response: long, goodbye: long };
    set(&mut patience);
    patience
}

#[test]
fn a_client_that_does_not_finish_its_head_is_told_so() {
    let server = server(impatient(|it| it.head = Duration::from_millis(50)));
    let answer = exchange(&server, "GET / HTTP/1.1\r\nHost: local");
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    // One that says nothing is not answered.
    assert_eq!(exchange(&server, ""), "");
    server.stop();
}

#[test]
fn a_client_that_does_not_finish_its_body_is_told_so() {
    let server = server(impatient(|it| it.body = Duration::from_millis(50)));
    let request =
        "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n0x1";
    let answer = exchange(&server, request);
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
    server.stop();
}

#[test]
fn a_client_that_does_not_hang_up_is_left() {
    let server = server(impatient(|it| it.goodbye = Duration::from_millis(50)));
    let mut client = TcpStream::connect(server.address()).unwrap();
    client.write_all(b"GET /nothing HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    while !server.context.open().streams.is_empty() {
        thread::yield_now();
    }
    assert!(read_all(&mut client).starts_with("HTTP/1.1 404 "));
    server.stop();
}

#[test]
fn a_client_that_does_not_read_is_left() {
    let patience = impatient(|it| it.response = Duration::from_millis(50));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    // More than the buffers of both sides take.
    let bytes = vec![0; 64 << 20];
    let written = connection::deliver(&stream, &bytes, patience);
    assert!(written.is_err());
    drop(client);
}

#[test]
fn too_many_connections_are_refused_with_a_sentence() {
    let server = server(impatient(|_| ()));
    let idle: Vec<_> =
        (0..MAX_CONNECTIONS).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    while server.context.open().streams.len() < MAX_CONNECTIONS {
        thread::yield_now();
    }
    let request = "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = exchange(&server, request);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("too many connections, try again in a moment\n"), "{answer}");

    drop(idle);
    while !server.context.open().streams.is_empty() {
        thread::yield_now();
    }
    let answer = exchange(&server, request);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    server.stop();
}

#[test]
fn stopping_hangs_up_on_everyone_and_gives_the_port_back() {
    let server = server(impatient(|_| ()));
    let address = server.address();
    let mut client = TcpStream::connect(address).unwrap();
    while server.context.open().streams.is_empty() {
        thread::yield_now();
    }
    server.stop();
    assert_eq!(read_all(&mut client), "");
    assert!(TcpListener::bind(address).is_ok());
}
