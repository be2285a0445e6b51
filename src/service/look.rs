//! Looks at services for all rollouts at once: one DescribeServices for up to ten of a cluster, at the moment when the first of them
//! wants to know.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::aws::{Aws, AwsError, Service};

/// `DescribeServices` takes at most ten names.
const BATCH: usize = 10;
/// Who asks within this time of another is asked for along with it.
const TOGETHER: Duration = Duration::from_millis(60);

struct Question {
    cluster: String,
    service: String,
    due: Instant,
    answer: oneshot::Sender<Result<Option<Service>, AwsError>>,
}

/// Asks for many. It ends when the last handle is dropped.
#[derive(Debug, Clone)]
pub(super) struct Looker(mpsc::UnboundedSender<Question>);

impl Looker {
    pub(super) fn start(aws: &Aws) -> Self {
        let (ask, questions) = mpsc::unbounded_channel();
        tokio::spawn(answer(aws.clone(), questions));
        Self(ask)
    }

    /// The service after `pause`, or sooner where others look earlier; `None` when it is not there.
    pub(super) async fn look(&self, cluster: &str, service: &str, pause: Duration) -> Result<Option<Service>, AwsError> {
        let (answer, answered) = oneshot::channel();
        let due = Instant::now() + pause;
        let question = Question { cluster: cluster.to_owned(), service: service.to_owned(), due, answer };
        // It looks for as long as there is somebody to ask it; only the end of the process is in between.
        match self.0.send(question) {
            Ok(()) => answered.await.unwrap_or(Ok(None)),
            Err(_) => std::future::pending().await,
        }
    }
}

async fn answer(aws: Aws, mut questions: mpsc::UnboundedReceiver<Question>) {
    let mut waiting: Vec<Question> = Vec::new();
    let mut late = false;
    loop {
        let due = waiting.iter().map(|question| question.due).min();
        let wake = async {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            question = questions.recv() => match question {
                Some(question) => waiting.push(question),
                None => return,
            },
            () = wake => {
                // Whoever has just been answered, and asks at once, is not to wait for the next round.
                tokio::time::sleep(TOGETHER).await;
                while let Ok(question) = questions.try_recv() {
                    waiting.push(question);
                }
                late = round(&aws, std::mem::take(&mut waiting), late).await;
            }
        }
    }
}

/// Answers each question. After an answer that was too `late`, the next one is given all the time that it wants. Was one too late?
async fn round(aws: &Aws, questions: Vec<Question>, late: bool) -> bool {
    let mut too_late = false;
    let mut clusters: BTreeMap<String, Vec<Question>> = BTreeMap::new();
    for question in questions {
        clusters.entry(question.cluster.clone()).or_default().push(question);
    }
    for (cluster, mut questions) in clusters {
        while !questions.is_empty() {
            let batch: Vec<Question> = questions.drain(..questions.len().min(BATCH)).collect();
            let names: Vec<&str> = batch.iter().map(|question| question.service.as_str()).collect();
            let found = if late { aws.services(&cluster, &names).await } else { aws.services_now(&cluster, &names).await };
            // An endpoint that is slow is so for a while.
            too_late |= late || found.as_ref().is_err_and(AwsError::is_timeout);
            for question in batch {
                let name = question.service.rsplit('/').next().unwrap_or_default();
                let own =
                    |services: &Vec<Service>| services.iter().find(|found| found.name == name || found.arn == question.service).cloned();
                // Whoever asked may have been stopped.
                let _ = question.answer.send(found.as_ref().map(own).map_err(Clone::clone));
            }
        }
    }
    too_late
}
