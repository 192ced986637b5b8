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

/// Patience that is never over, but for what a test sets.
fn patient(set: impl FnOnce(&mut Patience)) -> Patience {
    let long = Duration::from_mins(10);
    let mut patience = Patience { head: long, body: long, response: long, goodbye: long };
    set(&mut patience);
    patience
}

const SHORT: Duration = Duration::from_millis(20);

/// Returns the server's end and the client's end of a connection on which a request, or a part of
/// one, has been sent.
fn connection(request: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    client.write_all(request.as_bytes()).unwrap();
    (listener.accept().unwrap().0, client)
}

/// Answers what has been sent, and no more will come.
fn answer(request: &str, patience: Patience) -> String {
    let (stream, mut client) = connection(request);
    let context = Context { guard: GUARD, patience, open: Mutex::default() };
    let answered = connection::answer(&stream, &context);
    drop(stream);
    let answer = read_all(&mut client);
    assert_eq!(answered.is_ok(), !answer.is_empty());
    answer
}

#[test]
fn a_client_that_does_not_finish_its_head_is_told_so() {
    let patience = patient(|it| it.head = SHORT);
    let answer = answer("GET / HTTP/1.1\r\nHost: local", patience);
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
}

#[test]
fn a_client_that_says_nothing_is_not_answered() {
    assert_eq!(answer("", patient(|it| it.head = SHORT)), "");
}

#[test]
fn a_client_that_does_not_finish_its_body_is_told_so() {
    let request =
        "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n0x1";
    let answer = answer(request, patient(|it| it.body = SHORT));
    assert!(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{answer}");
}

#[test]
fn a_client_that_does_not_hang_up_is_left() {
    let (stream, mut client) = connection("");
    assert!(connection::part(&stream, SHORT).is_err());
    drop(stream);
    assert_eq!(read_all(&mut client), "");
}

#[test]
fn a_client_that_does_not_read_is_left() {
    let (stream, client) = connection("");
    // More than the buffers of both sides take.
    let bytes = vec![0; 64 << 20];
    assert!(connection::deliver(&stream, &bytes, patient(|it| it.response = SHORT)).is_err());
    drop(client);
}

#[test]
fn too_many_connections_are_refused_with_a_sentence() {
    let server = server(patient(|_| ()));
    let idle: Vec<_> =
        (0..MAX_ANSWERING).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
    while server.context.open().answering < MAX_ANSWERING {
        thread::yield_now();
    }
    let request = "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let answer = exchange(&server, request);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.ends_with("too many connections, try again in a moment\n"), "{answer}");

    drop(idle);
    while server.context.open().answering > 0 {
        thread::yield_now();
    }
    let answer = exchange(&server, request);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    server.stop();
}

#[test]
fn stopping_hangs_up_on_everyone_and_gives_the_port_back() {
    let server = server(patient(|_| ()));
    let address = server.address();
    let mut client = TcpStream::connect(address).unwrap();
    while server.context.open().streams.is_empty() {
        thread::yield_now();
    }
    server.stop();
    assert_eq!(read_all(&mut client), "");
    assert!(TcpListener::bind(address).is_ok());
}

#[test]
fn a_connection_that_takes_its_leave_is_in_nobodys_way() {
    let server = server(patient(|_| ()));
    let request = "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: localhost\r\n\r\n";
    // Answered, and not closed by the client.
    let answered: Vec<_> = (0..MAX_ANSWERING)
        .map(|_| {
            let mut client = TcpStream::connect(server.address()).unwrap();
            client.write_all(request.as_bytes()).unwrap();
            assert!(read_all(&mut client).starts_with("HTTP/1.1 200 OK\r\n"));
            client
        })
        .collect();
    let answer = exchange(&server, request);
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    drop(answered);
    server.stop();
}
