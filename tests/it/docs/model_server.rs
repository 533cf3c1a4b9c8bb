//! The model server that the docs speak of, as far as a reader can tell: it answers in the form of
//! the Open Inference Protocol, of OpenAI's API or of TGI, and keeps the last request that reached it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// The last request that any of the servers got: head and body.
pub(crate) type LastRequest = Arc<Mutex<String>>;

/// Starts one; it ends with the process.
pub(crate) fn start(last: &LastRequest) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let last = Arc::clone(last);
    std::thread::spawn(move || {
        for connection in listener.incoming().flatten() {
            let last = Arc::clone(&last);
            std::thread::spawn(move || serve(&connection, &last));
        }
    });
    address
}

/// Answers until the gate closes the connection.
fn serve(connection: &TcpStream, last: &LastRequest) -> Option<()> {
    let mut reader = BufReader::new(connection);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if reader.read_line(&mut head).ok()? == 0 {
                return None;
            }
        }
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        reader.read_exact(&mut body).ok()?;
        let answer = answer_to(head.lines().next()?);
        *last.lock().unwrap() = format!("{head}{}", String::from_utf8_lossy(&body));
        let mut connection = connection;
        write!(
            connection,
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
            answer.len()
        )
        .ok()?;
    }
}

fn answer_to(request_line: &str) -> String {
    let path = request_line.split(' ').nth(1).unwrap_or("/");
    let segments: Vec<&str> = path.split('/').skip(1).collect();
    match segments[..] {
        ["v2", "models", model, "infer"] => format!(
            "{{\"model_name\":\"{model}\",\"outputs\":[{{\"name\":\"species\",\"shape\":[1],\
             \"datatype\":\"BYTES\",\"data\":[\"setosa\"]}}]}}\n"
        ),
        ["v1", "models"] => "{\"object\":\"list\",\"data\":[\
             {\"id\":\"meta-llama/Llama-3.1-8B-Instruct\",\"object\":\"model\"},\
             {\"id\":\"Qwen/Qwen3-Embedding-0.6B\",\"object\":\"model\"},\
             {\"id\":\"sql-v2\",\"object\":\"model\"}]}\n"
            .into(),
        ["v1", "chat", "completions"] => "{\"object\":\"chat.completion\",\"choices\":[{\"index\":0,\
             \"message\":{\"role\":\"assistant\",\"content\":\"Hello.\"},\"finish_reason\":\"stop\"}]}\n"
            .into(),
        ["generate"] => "{\"generated_text\":\" Hello.\"}\n".into(),
        ["v2", "models", model] => format!("{{\"name\":\"{model}\",\"platform\":\"sklearn\"}}\n"),
        _ => "{}\n".into(),
    }
}
