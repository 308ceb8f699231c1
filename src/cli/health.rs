//! `dstore health`: one question to a role's listener for health, answered by an exit code.
//!
//! Containers and service managers ask whether a process is alive by starting a program beside it. An image that holds this
//! binary and nothing else has no curl and no shell, so the binary asks itself: `/healthz`, or with `--ready` `/readyz`,
//! at the address that the settings of the same machine name. With `--wait` it asks until the answer is yes.
//!
//! A health check that leads to a restart should ask without `--ready`: a process that waits for control or for the
//! coordinator is as it should be, and starting it anew helps nobody.
//!
//! It speaks the few lines of HTTP itself. A client library would start a runtime and a pool of threads for it, every few
//! seconds, in every container.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | yes |
//! | 1 | an answer, and it is no |
//! | 3 | nothing listens there, or it cannot be reached |

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::Config;

/// How long one question may take.
const ANSWER_WAIT: Duration = Duration::from_secs(2);
/// How long to wait before it is asked again.
const ASK_PAUSE: Duration = Duration::from_millis(200);
/// An answer longer than that is not one of ours.
const ANSWER_BYTES_MAX: u64 = 64 << 10;
/// Nothing answered.
const UNREACHED: u8 = 3;

/// Flags of `dstore health`.
#[derive(Debug, Args)]
pub struct HealthFlags {
    /// Ask whether it serves, instead of whether it is alive
    #[arg(long)]
    ready: bool,
    /// Where to ask; the setting metrics.listen of this machine where none is given
    #[arg(long, value_name = "HOST:PORT")]
    address: Option<String>,
    /// Ask again until the answer is yes, so many seconds at most
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    wait: u64,
}

/// What came of a question.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Yes(String),
    No(String),
    Nothing(String),
}

/// Asks, says what was answered where that is not yes, and ends with a code of the table above.
pub fn run(flags: &HealthFlags, file: Option<&Path>, overrides: &[(String, String)]) -> ExitCode {
    let address = match &flags.address {
        Some(address) => address.clone(),
        None => match Config::load(file, std::env::vars(), overrides.to_vec()) {
            Ok((config, _)) => reachable(config.metrics.listen).to_string(),
            Err(error) => {
                super::complain(&error);
                return ExitCode::FAILURE;
            }
        },
    };
    let path = if flags.ready { "/readyz" } else { "/healthz" };
    match until_yes(&address, path, Instant::now() + Duration::from_secs(flags.wait)) {
        Answer::Yes(said) => {
            println!("{said}");
            ExitCode::SUCCESS
        }
        Answer::No(said) => {
            eprintln!("{said}");
            ExitCode::FAILURE
        }
        Answer::Nothing(problem) => {
            eprintln!("error: {address} does not answer: {problem}");
            ExitCode::from(UNREACHED)
        }
    }
}

/// Who listens on every address listens on loopback, too.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

fn until_yes(address: &str, path: &str, deadline: Instant) -> Answer {
    loop {
        let answer = ask(address, path).unwrap_or_else(|error| Answer::Nothing(error.to_string()));
        if matches!(answer, Answer::Yes(_)) || Instant::now() >= deadline {
            return answer;
        }
        std::thread::sleep(ASK_PAUSE);
    }
}

/// One question, over one connection, to the first address that takes it.
fn ask(address: &str, path: &str) -> std::io::Result<Answer> {
    let mut problem = std::io::Error::other("the name has no address");
    for target in address.to_socket_addrs()? {
        let mut stream = match TcpStream::connect_timeout(&target, ANSWER_WAIT) {
            Ok(stream) => stream,
            Err(error) => {
                problem = error;
                continue;
            }
        };
        // From here on somebody is there, whatever becomes of the question.
        return Ok(question(&mut stream, address, path).unwrap_or_else(|error| Answer::No(error.to_string())));
    }
    Err(problem)
}

fn question(stream: &mut TcpStream, address: &str, path: &str) -> std::io::Result<Answer> {
    stream.set_read_timeout(Some(ANSWER_WAIT))?;
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    // In one piece: whoever answers after the first would close before the others are sent.
    let question = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(question.as_bytes())?;
    let mut text = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut text)?;
    Ok(read(&String::from_utf8_lossy(&text)))
}

/// What an answer as it came over the wire says.
fn read(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((text, ""));
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let (version, status) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    match (version.starts_with("HTTP/1."), status) {
        (true, "200") => Answer::Yes(body.trim().to_owned()),
        (true, _) => Answer::No(format!("{status} {}", body.trim())),
        _ => Answer::No("what listens there does not speak HTTP".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A listener that answers one question with this text, and what it was asked.
    fn answering(text: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let asked = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut question = [0; 1024];
            let length = stream.read(&mut question).unwrap();
            stream.write_all(text.as_bytes()).unwrap();
            String::from_utf8_lossy(&question[..length]).into_owned()
        });
        (address, asked)
    }

    #[test]
    fn answers_are_told_apart() {
        let (address, asked) = answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nready");
        assert_eq!(ask(&address, "/readyz").unwrap(), Answer::Yes("ready".to_owned()));
        assert!(asked.join().unwrap().starts_with("GET /readyz HTTP/1.1\r\n"));
        let (address, _asked) = answering("HTTP/1.1 503 Service Unavailable\r\n\r\n{\"status\":\"waiting\"}");
        assert_eq!(ask(&address, "/readyz").unwrap(), Answer::No("503 {\"status\":\"waiting\"}".to_owned()));
        let (address, _asked) = answering("\u{15}\u{3}");
        assert!(matches!(ask(&address, "/healthz").unwrap(), Answer::No(_)), "somebody is there");
    }

    #[test]
    fn nobody_there_is_no_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        assert!(matches!(until_yes(&address, "/healthz", Instant::now()), Answer::Nothing(_)));
    }

    #[test]
    fn it_asks_until_the_answer_is_yes() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for answer in ["HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
                let (mut stream, _) = listener.accept().unwrap();
                assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
        let deadline = Instant::now() + Duration::from_secs(60);
        assert_eq!(until_yes(&address, "/readyz", deadline), Answer::Yes(String::new()));
    }

    #[test]
    fn every_address_means_loopback() {
        for (listen, asked) in [("0.0.0.0:9090", "127.0.0.1:9090"), ("[::]:1", "[::1]:1"), ("10.0.0.1:2", "10.0.0.1:2")]
        {
            assert_eq!(reachable(listen.parse().unwrap()), asked.parse().unwrap());
        }
    }
}
