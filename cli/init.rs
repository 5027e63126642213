//! `init`: creates a repository and shows its recovery key once.

use std::{
    hash::{BuildHasher, RandomState},
    io::{self, BufRead, IsTerminal, Write},
};

use heirloom_store::{Cipher, Error as StoreError, Options, RecoveryKey, Repository};

use crate::{
    access,
    args::{CipherName, Global, Init},
    failure::{Exit, Failure, Result},
    report::{Report, can_ask},
};

const WORDS_TO_TEST: usize = 3;

pub fn run(args: &Init, global: &Global, report: &Report) -> Result<Exit> {
    let path = access::repository_path(global)?;
    let cipher = match args.cipher {
        CipherName::Aes256Gcm => Cipher::Aes256Gcm,
        CipherName::ChaCha20Poly1305 => Cipher::ChaCha20Poly1305,
    };
    let storage = access::storage(path);
    if Repository::probe(&*storage).is_ok() {
        return Err(Failure::from(StoreError::Exists).about(path.display()));
    }
    let password = if args.no_password { None } else { Some(access::new_password()?) };
    let options = Options { cipher, ..Options::default() };
    let created = Repository::create(storage, password.as_deref(), &options);
    let (repository, key) = created.map_err(|error| Failure::from(error).about(path.display()))?;
    if report.json {
        let words = key.map(|key| key.to_string());
        report.json(&serde_json::json!({ "id": repository.id().to_string(), "path": path, "recovery_key": words }))?;
        return Ok(Exit::Ok);
    }
    report.line(format_args!("created repository {} in {}", repository.id(), path.display()))?;
    match key {
        Some(key) => hand_over(&key, args, report)?,
        None => report.line("It has no password: whoever has the folder can read it.")?,
    }
    report.note(format_args!("\nNext: heirloom --repo {} backup     (or import PATH)", path.display()));
    Ok(Exit::Ok)
}

/// Shows the recovery key, and sees on a terminal that it was written down.
fn hand_over(key: &RecoveryKey, args: &Init, report: &Report) -> Result<()> {
    let text = key.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    report.line("\nRecovery key. It opens the repository if the password is lost, and is shown this once:\n")?;
    for (row, five) in words.chunks(5).enumerate() {
        let numbered: Vec<String> =
            five.iter().enumerate().map(|(at, word)| format!("{:>2} {word:<8}", row * 5 + at + 1)).collect();
        report.line(format_args!("    {}", numbered.join("  ").trim_end()))?;
    }
    report.line("\nWrite the words on paper, in this order, and keep the paper away from the disk.")?;
    report.flush()?;
    if args.no_verify || !can_ask() || !io::stdout().is_terminal() {
        return Ok(());
    }
    test_back(&words, &mut io::stdin().lock(), &mut io::stderr())
        .map_err(|error| Failure::failed(format!("cannot ask for the words: {error}")))
}

/// Asks for a few of the words, until they are right or the person skips it.
fn test_back(words: &[&str], answers: &mut dyn BufRead, questions: &mut dyn Write) -> io::Result<()> {
    writeln!(questions, "To be sure that they are on paper, type three of them ('skip' to leave it).")?;
    for at in some_of(words.len()) {
        loop {
            write!(questions, "word {}: ", at + 1)?;
            questions.flush()?;
            let mut answer = String::new();
            let is_end = answers.read_line(&mut answer)? == 0;
            let answer = answer.trim().to_lowercase();
            if is_end || answer == "skip" {
                return writeln!(questions, "skipped");
            }
            if answer == words[at] {
                break;
            }
            writeln!(questions, "That is not word {}. Look at the list again.", at + 1)?;
        }
    }
    writeln!(questions, "Right.")
}

/// Positions that differ each time, ascending.
fn some_of(len: usize) -> Vec<usize> {
    let random = RandomState::new();
    let mut positions: Vec<usize> = (0..len).collect();
    positions.sort_by_key(|at| random.hash_one(at));
    positions.truncate(WORDS_TO_TEST);
    positions.sort_unstable();
    positions
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: [&str; 4] = ["apple", "banana", "cherry", "date"];

    fn answered(answers: impl Fn(usize) -> String) -> String {
        let all: String = (0..60).map(|at| answers(at) + "\n").collect();
        let mut questions = Vec::new();
        test_back(&WORDS, &mut all.as_bytes(), &mut questions).unwrap();
        String::from_utf8(questions).unwrap()
    }

    #[test]
    fn three_different_words_are_asked_for() {
        let positions = some_of(15);
        assert_eq!(positions.len(), 3);
        assert!(positions.windows(2).all(|pair| pair[0] < pair[1]) && positions[2] < 15);
    }

    #[test]
    fn it_asks_until_the_word_is_right() {
        // After a wrong answer every word is tried in turn, so that each question gets its answer in the end.
        let said = answered(|at| if at == 0 { "no word".into() } else { WORDS[at % 4].to_uppercase() });
        assert!(said.ends_with("Right.\n") && said.contains("Look at the list again"), "{said}");
    }

    #[test]
    fn it_can_be_skipped_and_ends_with_the_input() {
        assert!(answered(|_| "skip".into()).ends_with("skipped\n"));
        let mut questions = Vec::new();
        test_back(&WORDS, &mut &b""[..], &mut questions).unwrap();
        assert!(questions.ends_with(b"skipped\n"));
    }
}
