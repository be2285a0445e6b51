//! Questions on a terminal.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use crate::detect::{Application, Question, Source};
use crate::model::{Exit, Failure};

use super::names::Names;

/// Is there somebody to ask?
pub(super) fn terminal(no_input: bool) -> bool {
    let ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    !no_input && !ci && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
}

fn line(prompt: &str) -> Result<String, Failure> {
    let mut out = std::io::stderr();
    let _ = out.write_all(prompt.as_bytes()).and_then(|()| out.flush());
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    match read {
        Ok(bytes) if bytes > 0 => Ok(answer.trim().to_owned()),
        Ok(_) | Err(_) => {
            let _ = out.write_all(b"\n");
            let failure = Failure::new(Exit::Config, "nobody answers; nothing was written");
            Err(failure.hint("run it on a terminal, or answer by flags: `windlass init --help`"))
        }
    }
}

/// Asks until one of the choices, or another answer where there are none, is given.
pub(super) fn choose(question: &Question) -> Result<String, Failure> {
    let mut prompt = format!("{}\n", question.what);
    for (number, (value, at)) in question.choices.iter().enumerate() {
        prompt.push_str(&format_args!("  {}) {value}   {at}\n", number + 1).to_string());
    }
    let flag = question.topic.flag();
    prompt.push_str(&format_args!("which? ({flag} answers this beforehand) ").to_string());
    loop {
        let answer = line(&prompt)?;
        let chosen = answer.parse::<usize>().ok().and_then(|number| question.choices.get(number.checked_sub(1)?));
        match chosen {
            Some((value, _)) => return Ok(value.clone()),
            None if answer.is_empty() => {}
            None if question.choices.is_empty() || question.choices.iter().any(|(value, _)| *value == answer) => return Ok(answer),
            None => {}
        }
    }
}

/// Asks for names that cannot be known; an empty line takes what is proposed.
pub(super) fn names(names: &mut Names, application: &Application) -> Result<(), Failure> {
    let ask = |what: &str, proposed: &str| -> Result<String, Failure> {
        let answer = line(&format!("{what} [{proposed}]: "))?;
        Ok(if answer.is_empty() { proposed.to_owned() } else { answer })
    };
    if !names.state.sure {
        let answer = ask("a private place for the state, s3://BUCKET/PREFIX or none", &names.state.value.clone())?;
        if answer != names.state.value {
            names.set_state(&answer);
        }
    }
    for site in &application.sites {
        let bucket = names.bucket(&site.name);
        if !bucket.sure {
            let answer = ask(&format!("the bucket of the site `{}`", site.name), &bucket.value)?;
            if answer != bucket.value {
                names.set_bucket(&site.name, &answer);
            }
        }
        if names.distribution(&site.name).is_none() && !matches!(site.source, Source::Image { .. }) {
            let answer = line(&format!("the CloudFront distribution of the site `{}`, by its id [none]: ", site.name))?;
            if !answer.is_empty() && answer != "none" {
                names.set_distribution(&site.name, &answer);
            }
        }
    }
    if let Some(first) = application.services.first() {
        let cluster = names.cluster(&first.name);
        if !cluster.sure {
            let answer = ask("the ECS cluster", &cluster.value)?;
            if answer != cluster.value {
                names.set_cluster(&answer);
            }
        }
    }
    Ok(())
}
