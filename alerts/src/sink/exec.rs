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
    let mut json = json::render(context, message, true);
    json.push(b'\n');
    run(&config.command, json, TIMEOUT).await
}

async fn run(command: &[String], input: Vec<u8>, limit: Duration) -> Result<String, Failure> {
    let Some((program, arguments)) = command.split_first() else {
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
    let result = tokio::time::timeout(limit, exchange(&mut child, input)).await;
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
            Err(Failure::retry(format!("{program} did not end within {} s and was killed", limit.as_secs())))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::Instant;

    /// A shell script in a folder of its own; `$0.d` is a place for its files.
    fn script(folder: &tempfile::TempDir, text: &str) -> Vec<String> {
        let path = folder.path().join("hook");
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        vec![path.display().to_string(), folder.path().display().to_string()]
    }

    fn alive(pid: &str) -> bool {
        // A zombie of somebody else's is dead, too.
        fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
            .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with('Z'))
    }

    #[tokio::test]
    async fn one_that_hangs_is_killed_with_all_it_started_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let command = script(&folder, "sleep 300 &\necho $! >$1/child\necho $$ >$1/own\nsleep 300");
        let begin = Instant::now();
        let failure = run(&command, b"{}\n".to_vec(), Duration::from_secs(2)).await.unwrap_err();
        assert!(begin.elapsed() < Duration::from_secs(60));
        assert_eq!(failure.reason, format!("{} did not end within 2 s and was killed", command[0]));
        for file in ["child", "own"] {
            let pid = fs::read_to_string(folder.path().join(file)).unwrap();
            // What it started is init's to bury, which may take a moment.
            for _ in 0..500 {
                if !alive(&pid) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            assert!(!alive(&pid), "{file} {pid} lives on");
        }
    }

    #[tokio::test]
    async fn of_much_output_only_the_beginning_is_kept_and_the_program_is_not_held_up() {
        let folder = tempfile::tempdir().unwrap();
        let command = script(
            &folder,
            "cat >/dev/null\nhead -c 4000000 /dev/zero | tr '\\0' x\nhead -c 4000000 /dev/zero | tr '\\0' y >&2\nexit 1",
        );
        let failure = run(&command, b"{}\n".to_vec(), Duration::from_secs(60)).await.unwrap_err();
        let kept = failure.reason.matches('y').count();
        assert!(failure.reason.contains("failed (exit status: 1)"), "{}", failure.reason);
        assert!((OUTPUT_BYTES..OUTPUT_BYTES + 10).contains(&kept), "{kept} bytes are kept");
    }

    #[tokio::test]
    async fn one_that_reads_nothing_and_ends_well_has_taken_the_alert() {
        let folder = tempfile::tempdir().unwrap();
        let command = script(&folder, "exec <&-\necho noted\nsleep 300 >/dev/null 2>&1 &");
        let answer = run(&command, vec![b'x'; 1_000_000], Duration::from_secs(60)).await.unwrap();
        assert_eq!(answer, "exit 0: noted");
    }
}
