//! A recovery key on its way to paper.

use std::{
    hash::{BuildHasher, RandomState},
    io::{self, BufRead, IsTerminal, Write},
};

use heirloom_store::{RecoveryKey, Repository};

use crate::{
    failure::{Failure, Result},
    report::{Report, can_ask},
};

const WORDS_TO_TEST: usize = 3;

/// Shows the recovery key of the slot `id`, and sees on a terminal that it was written down.
pub fn hand_over(key: &RecoveryKey, id: &str, repository: &Repository, no_verify: bool, report: &Report) -> Result<()> {
    let text = key.to_string();
    let words: Vec<&str> = text.split_whitespace().collect();
    or_withdraw(show(&words, report), id, repository)?;
    if no_verify || !can_ask() || !io::stdout().is_terminal() {
        return Ok(());
    }
    test_back(&words, &mut io::stdin().lock(), &mut io::stderr())
        .map_err(|error| Failure::failed(format!("cannot ask for the words: {error}")))
}

/// Has a key that nobody has seen open nothing any more. A reader that went away has not seen it.
pub fn or_withdraw(shown: Result<()>, id: &str, repository: &Repository) -> Result<()> {
    let Err(failure) = shown else { return Ok(()) };
    let why = if failure.message.is_empty() { "nobody reads what is printed" } else { &failure.message };
    Err(match repository.remove_slot(id) {
        Ok(()) => Failure::failed(format!("the recovery key could not be shown, and opens nothing: {why}"))
            .hint("the repository and its password are as they should be; `heirloom key recovery` makes another key"),
        Err(error) => Failure::failed(format!("the recovery key could not be shown ({why}), nor taken back: {error}"))
            .hint(format!("`heirloom key remove {id}`, then `heirloom key recovery`")),
    })
}

fn show(words: &[&str], report: &Report) -> Result<()> {
    report.line("\nRecovery key. It opens the repository if the password is lost, and is shown this once:\n")?;
    let in_row = words_in_row(report.columns());
    for (row, some) in words.chunks(in_row).enumerate() {
        let numbered: Vec<String> =
            some.iter().enumerate().map(|(at, word)| format!("{:>2} {word:<8}", row * in_row + at + 1)).collect();
        report.line(format_args!("    {}", numbered.join("  ").trim_end()))?;
    }
    report.line("\nWrite the words on paper, in this order, and keep the paper away from the disk.")?;
    report.flush()
}

/// Five words, each with its number, or as many as a narrow terminal has room for.
fn words_in_row(columns: Option<usize>) -> usize {
    const MARGIN: usize = 4;
    const WORD_WITH_GAP: usize = 13;
    columns.map_or(5, |columns| (columns.saturating_sub(MARGIN - 2) / WORD_WITH_GAP).clamp(1, 5))
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
    fn words_have_room_on_narrow_terminals() {
        assert_eq!([None, Some(80), Some(66), Some(40), Some(10)].map(words_in_row), [5, 5, 4, 2, 1]);
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
