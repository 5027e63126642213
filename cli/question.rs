//! Questions to the person at the terminal. Ctrl-C ends one at once, and leaves the terminal as it was.

use std::{
    io::{self, Write},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

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
    answer(read)?.map_err(|error| Failure::failed(format!("cannot read the answer: {error}")))
}

/// Asks for a secret, and does not show what is typed.
pub fn secret(question: &str) -> Result<io::Result<String>> {
    let question = printable(question);
    answer(move || rpassword::prompt_password(question))
}

/// Waits for an answer, or for Ctrl-C. After that the reader is left to itself: the program ends.
fn answer(read: impl FnOnce() -> io::Result<String> + Send + 'static) -> Result<io::Result<String>> {
    let _asking = interrupt::asking();
    let terminal = Terminal::as_it_is();
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(read()));
    loop {
        match receiver.recv_timeout(LOOK_EVERY) {
            Ok(answer) => return Ok(answer),
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
struct Terminal(Option<(std::fs::File, rustix::termios::Termios)>);

#[cfg(unix)]
impl Terminal {
    fn as_it_is() -> Terminal {
        let file = std::fs::File::open("/dev/tty").ok();
        Terminal(file.and_then(|file| rustix::termios::tcgetattr(&file).ok().map(|set| (file, set))))
    }

    fn restore(self) {
        if let Some((file, set)) = self.0 {
            let _ = rustix::termios::tcsetattr(&file, rustix::termios::OptionalActions::Now, &set);
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

    fn restore(self) {}
}
