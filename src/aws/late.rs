//! What was made a moment ago may not be known to all of a service yet. Asking again for some seconds is the one wait of this room, since
//! every room that makes something has to wait so.
//!
//! "The Amazon ECS API follows an eventual consistency model": <https://docs.aws.amazon.com/AmazonECS/latest/APIReference/API_RunTask.html>

use std::time::Duration;

use super::AwsError;

/// When it is asked again: for 7.3 s in all.
const PAUSES: [Duration; 4] = [Duration::from_millis(300), Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];

/// Asks until the answer is no longer that what was just made is `unknown`; the last answer is given as it is.
///
/// # Errors
/// Those of the question.
pub async fn once_known<T>(
    mut ask: impl AsyncFnMut() -> Result<T, AwsError>,
    unknown: impl Fn(&Result<T, AwsError>) -> bool,
) -> Result<T, AwsError> {
    for pause in PAUSES {
        let answer = ask().await;
        if !unknown(&answer) {
            return answer;
        }
        tokio::time::sleep(pause).await;
    }
    ask().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_asked_again_until_it_is_known() {
        let mut asked = 0;
        let known = once_known(
            async || {
                asked += 1;
                Ok((asked > 1).then_some(asked))
            },
            |answer| matches!(answer, Ok(None)),
        );
        assert_eq!(known.await, Ok(Some(2)));
        assert_eq!(once_known(async || Ok(7), |_| false).await, Ok(7));
    }
}
