// SPDX-License-Identifier: Apache-2.0
//! The operator's program: the alert as JSON on its standard input, exit code 0 is the acknowledgement.

use crate::config::Exec;
use crate::outbox::{Failure, Message};
use crate::render::{json, Context};
use std::process::Stdio;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

const TIMEOUT: Duration = Duration::from_secs(60);
/// For output that is still on its way when the program has ended.
const LAST_WORDS: Duration = Duration::from_millis(200);
/// More of what the program prints is thrown away.
const OUTPUT_BYTES: usize = 1024;

/// Runs the program once and returns what it printed.
pub(crate) async fn deliver(
    config: &Exec,
    context: Context<'_>,
    message: &Message,
) -> Result<String, Failure> {
    let Some((program, arguments)) = config.command.split_first() else {
        return Err(Failure::retry("exec_command is empty"));
    };
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Its own group: what it started ends with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::retry(format!("{program} cannot be started: {error}")))?;
    let mut group = Group::of(&child);
    let mut json = json::render(context, message, true);
    json.push(b'\n');
    let result = tokio::time::timeout(TIMEOUT, exchange(&mut child, json)).await;
    if result.is_ok() {
        // It has ended by itself; what it left running in the background may go on.
        group.0 = None;
    }
    drop(group);
    match result {
        Ok(Ok((status, output))) if status.success() => Ok(format!("exit 0: {output}")),
        Ok(Ok((status, output))) => Err(Failure::retry(format!("{program} failed ({status}): {output}"))),
        Ok(Err(error)) => Err(Failure::retry(format!("{program}: {error}"))),
        Err(_) => {
            // Killed above; this only takes its exit status away, so that no zombie is left.
            let _ = child.wait().await;
            Err(Failure::retry(format!(
                "{program} did not end within {} s and was killed",
                TIMEOUT.as_secs()
            )))
        }
    }
}

async fn exchange(child: &mut Child, input: Vec<u8>) -> std::io::Result<(std::process::ExitStatus, String)> {
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let feed = async {
        if let Some(mut stdin) = stdin {
            // A program need not read what it gets.
            let _ = stdin.write_all(&input).await;
        }
    };
    let (mut printed, mut complained) = (Vec::new(), Vec::new());
    let status = {
        let outputs =
            async { tokio::join!(feed, head_of(stdout, &mut printed), head_of(stderr, &mut complained)) };
        tokio::pin!(outputs);
        tokio::select! {
            // All output is read first where it ends by itself.
            _ = &mut outputs => child.wait().await?,
            status = child.wait() => {
                // Something it started may still hold its output open.
                let _ = tokio::time::timeout(LAST_WORDS, &mut outputs).await;
                status?
            }
        }
    };
    let output = if complained.is_empty() { printed } else { complained };
    Ok((status, String::from_utf8_lossy(&output).split_whitespace().collect::<Vec<_>>().join(" ")))
}

/// The beginning of what comes; reads the rest away, so that the program is not blocked.
async fn head_of(stream: Option<impl AsyncRead + Unpin>, head: &mut Vec<u8>) {
    let Some(mut stream) = stream else { return };
    let mut buffer = [0; 512];
    while let Ok(count @ 1..) = stream.read(&mut buffer).await {
        let room = OUTPUT_BYTES - head.len();
        head.extend_from_slice(&buffer[..count.min(room)]);
    }
}

/// Kills the program and all it started, when dropped.
struct Group(Option<rustix::process::Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
    }
}
