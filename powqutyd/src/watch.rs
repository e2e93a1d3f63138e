// SPDX-License-Identifier: Apache-2.0
//! `powqutyd watch`: the screen of `status`, drawn again each second until interrupted.

use crate::screen;
use crate::subcommand::{ended, Error};
use openwrt::service::client::Client;
use serde_json::json;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::time::Duration;

/// Runs until the reader has gone.
///
/// # Errors
/// The daemon does not answer, or the output cannot be written.
pub fn main(socket: &Path) -> Result<(), Error> {
    let terminal = io::stdout().is_terminal();
    let mut client = Client::connect(socket)?;
    loop {
        let status = client.call("status", &json!({}))?;
        let text = screen::text(&status, terminal);
        if ended(draw(&text, terminal, &mut io::stdout().lock()))? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// On a terminal over the last screen, without a flicker: each line is cleared to its end, and what is below.
fn draw(text: &str, terminal: bool, out: &mut dyn Write) -> io::Result<()> {
    if !terminal {
        writeln!(out, "{text}")?;
        return out.flush();
    }
    let mut screen = String::with_capacity(text.len() + 1024);
    screen.push_str("\x1b[H");
    for line in text.lines() {
        screen.push_str(line);
        screen.push_str("\x1b[K\n");
    }
    screen.push_str("\x1b[J");
    out.write_all(screen.as_bytes())?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_screen_is_drawn_over_the_last_one() {
        let mut out = Vec::new();
        draw("a\nb\n", true, &mut out).unwrap();
        assert_eq!(out, b"\x1b[Ha\x1b[K\nb\x1b[K\n\x1b[J");
    }
}
