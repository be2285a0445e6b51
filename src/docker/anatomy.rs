//! What an image of the engine consists of: its layers, and which base it stands on.

use crate::model::ImageLayer;

use super::engine::Engine;
use super::error::DockerError;

/// So much of a layer's command is kept.
const COMMAND: usize = 200;

/// The layers of `image` that hold anything, oldest first, and the one of `bases` that they begin with, by its place.
///
/// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Image/operation/ImageHistory>
///
/// # Errors
/// The engine fails. A base that it does not have is passed over.
pub async fn anatomy(engine: &Engine, image: &str, bases: &[&str]) -> Result<(Vec<ImageLayer>, Option<usize>), DockerError> {
    let failed = |error| DockerError::request(format!("look into the image `{image}`"), error);
    let all = chain(engine, image).await.map_err(failed)?;
    let mut base: Option<(usize, usize)> = None;
    for (place, name) in bases.iter().enumerate() {
        // It may be one that only a stage before the last stands on.
        let Ok(below) = chain(engine, name).await else { continue };
        if !below.is_empty() && all.starts_with(&below) && base.is_none_or(|(_, longest)| below.len() > longest) {
            base = Some((place, below.len()));
        }
    }
    let of_base = match base {
        Some((place, _)) => engine.docker.image_history(bases[place]).await.map_or(0, |history| history.len()),
        None => 0,
    };
    let history = engine.docker.image_history(image).await.map_err(failed)?;
    let oldest_first = history.into_iter().rev().enumerate().map(|(at, entry)| ImageLayer {
        by: command(&entry.created_by),
        bytes: u64::try_from(entry.size).unwrap_or_default(),
        of_base: at < of_base,
    });
    Ok((oldest_first.filter(|layer| layer.bytes > 0).collect(), base.map(|(place, _)| place)))
}

/// What each layer is before compression.
async fn chain(engine: &Engine, image: &str) -> Result<Vec<String>, bollard::errors::Error> {
    let found = engine.docker.inspect_image(image).await?;
    Ok(found.root_fs.and_then(|root| root.layers).unwrap_or_default())
}

/// An instruction as it was written, without what the builders put around it.
fn command(text: &str) -> String {
    let text = text.trim_end_matches("# buildkit").trim();
    let text = text.strip_prefix("/bin/sh -c #(nop)").unwrap_or(text).trim();
    let text = text.strip_prefix("/bin/sh -c").map_or_else(|| text.to_owned(), |run| format!("RUN {}", run.trim()));
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(COMMAND).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_instruction_is_shown_as_it_was_written() {
        for (text, shown) in [
            ("COPY deps /app/deps # buildkit", "COPY deps /app/deps"),
            ("/bin/sh -c #(nop)  CMD [\"sh\"]", "CMD [\"sh\"]"),
            ("/bin/sh -c apt-get install\tx", "RUN apt-get install x"),
            ("RUN /bin/sh -c true # buildkit", "RUN /bin/sh -c true"),
            ("", ""),
        ] {
            assert_eq!(super::command(text), shown);
        }
    }
}
