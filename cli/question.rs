//! Questions to the person at the terminal. Ctrl-C ends one at once, and leaves the terminal as it was.

use std::{
    io::{self, Write},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

#[cfg(unix)]
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};

use crate::{
    failure::{Failure, Result},
    interrupt,
    report::printable,
};

/// How often a question looks whether Ctrl-C was pressed: reading goes on past a signal.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Asks for a line.
pub fn line(question: &str) -> Result<String> {
    let _ = write!(io::stderr(), "{}", printable(question));
    let read = || {
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map(|_| answer)
    };
    answer(read, Terminal::as_it_is)?.map_err(|error| Failure::failed(format!("cannot read the answer: {error}")))
}

/// Asks for a secret, and does not show what is typed.
pub fn secret(question: &str) -> Result<io::Result<String>> {
    let question = printable(question);
    // Whoever types, or pastes, as soon as the question is there is not to read the answer.
    answer(move || rpassword::prompt_password(question), Terminal::hushed)
}

/// Waits for an answer, or for Ctrl-C, and leaves the terminal as it was. After Ctrl-C the reader is left to itself:
/// the program ends.
fn answer(
    read: impl FnOnce() -> io::Result<String> + Send + 'static,
    terminal: fn() -> Terminal,
) -> Result<io::Result<String>> {
    let _asking = interrupt::asking();
    let terminal = terminal();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(read()));
    loop {
        match receiver.recv_timeout(LOOK_EVERY) {
            Ok(answer) => {
                terminal.restore();
                return Ok(answer);
            }
            Err(RecvTimeoutError::Timeout) if !interrupt::requested() => {}
            Err(_) => {
                terminal.restore();
                let _ = writeln!(io::stderr());
                return Err(Failure::interrupted());
            }
        }
    }
}

/// How the terminal was set: a question for a secret has it show nothing.
#[cfg(unix)]
struct Terminal(Option<(std::fs::File, Termios)>);

#[cfg(unix)]
impl Terminal {
    fn as_it_is() -> Terminal {
        let file = std::fs::File::open("/dev/tty").ok();
        Terminal(file.and_then(|file| tcgetattr(&file).ok().map(|set| (file, set))))
    }

    /// The same, and from now on it does not show what is typed.
    fn hushed() -> Terminal {
        let terminal = Terminal::as_it_is();
        if let Some((file, set)) = &terminal.0 {
            let mut mute = set.clone();
            mute.local_modes.remove(LocalModes::ECHO);
            let _ = tcsetattr(file, OptionalActions::Now, &mute);
        }
        terminal
    }

    fn restore(self) {
        if let Some((file, set)) = self.0 {
            let _ = tcsetattr(&file, OptionalActions::Now, &set);
        }
    }
}

/// Consoles of Windows are set anew by the shell.
#[cfg(not(unix))]
struct Terminal;

#[cfg(not(unix))]
impl Terminal {
    fn as_it_is() -> Terminal {
        Terminal
    }

    fn hushed() -> Terminal {
        Terminal
    }

    fn restore(self) {}
}
