//! The one error type of this room. It names the operation, keeps the cause, and answers questions.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// The cause of an error, as whatever library gave it.
pub(super) type Cause = Box<dyn Error + Send + Sync>;

/// Why something with Docker did not work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DockerError {
    /// No engine answers.
    #[error("no Docker engine answers at {endpoint}")]
    EngineAbsent {
        /// Every address that was tried, and what named it.
        endpoint: String,
        /// What went wrong at the last of them.
        source: Cause,
    },
    /// The engine's address is of a kind that cannot be reached from here.
    #[error("the Docker endpoint {endpoint} cannot be used: {why}")]
    EndpointUnsupported {
        /// The address, and what named it.
        endpoint: String,
        /// What is missing.
        why: String,
    },
    /// The files of the Docker command line that name the engine do not make sense.
    #[error("failed to read the Docker context `{name}` from `{}`", path.display())]
    EndpointUnreadable {
        /// The name of the Docker context, or of the file.
        name: String,
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: Cause,
    },
    /// The build context is not a directory.
    #[error("the build context `{}` is not a directory", path.display())]
    NoContext {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// There is no Dockerfile.
    #[error("there is no Dockerfile at `{}`", path.display())]
    NoDockerfile {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The Dockerfile's path leaves the build context.
    #[error("the Dockerfile `{path}` lies outside the build context")]
    DockerfileOutside {
        /// The path as it was given.
        path: String,
    },
    /// The Dockerfile asks for something that cannot be, on a line of it (0 if on none).
    #[error("`{dockerfile}`{}: {message}", if *line > 0 { format!(", line {line}") } else { String::new() })]
    Dockerfile {
        /// Its path, from the context's root.
        dockerfile: String,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// Neither a registry nor the engine knows a base image.
    #[error("nobody says what the base image `{image}` is (line {line} of the Dockerfile): {message}")]
    Base {
        /// The image, as the Dockerfile names it.
        image: String,
        /// Its line, from 1.
        line: usize,
        /// What the registry says.
        message: String,
    },
    /// A line of a `.dockerignore` file has no meaning.
    #[error("`{}` has a malformed pattern: `{pattern}`", file.display())]
    BadIgnorePattern {
        /// The file.
        file: PathBuf,
        /// The line, trimmed.
        pattern: String,
    },
    /// A name in the build context is not UTF-8.
    #[error("the name `{}` in the build context is not UTF-8", path.display())]
    PathNotText {
        /// The path, from the context's root.
        path: PathBuf,
    },
    /// A file of the build context could not be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The build failed: an instruction of the Dockerfile, or the Dockerfile itself.
    #[error("{}: {message}", step.as_deref().unwrap_or("the Dockerfile was refused"))]
    Build {
        /// The last `Step n/m : …` line, if the build came to one.
        step: Option<String>,
        /// What the engine says.
        message: String,
        /// The last lines of output, oldest first, at most 20.
        tail: Vec<String>,
    },
    /// A push failed, in the registry or on the way to it.
    #[error("failed to push `{repository}:{tag}`: {message}")]
    Push {
        /// The repository with its registry.
        repository: String,
        /// The tag.
        tag: String,
        /// What the engine says: a plain text, its API has no code for it.
        message: String,
    },
    /// A push gave no sign of life.
    #[error("failed to push `{repository}:{tag}`: nothing was heard for {} s", after.as_secs())]
    PushStalled {
        /// The repository with its registry.
        repository: String,
        /// The tag.
        tag: String,
        /// How long nothing was heard.
        after: Duration,
    },
    /// A pull failed, in the registry or on the way from it.
    #[error("failed to pull `{image}`: {message}")]
    Pull {
        /// The image, as it was asked for.
        image: String,
        /// What the engine says: a plain text, its API has no code for it.
        message: String,
    },
    /// An image does not have a directory.
    #[error("the image `{image}` has no directory `{path}`")]
    NoDirectory {
        /// The image.
        image: String,
        /// The path in it.
        path: String,
    },
    /// An image's file would be written outside the directory that it is meant for.
    #[error("`{}` leads out of the directory that it is unpacked into", path.display())]
    EntryOutside {
        /// Its path in the engine's archive.
        path: PathBuf,
    },
    /// A file of an image could not be written, or the archive that it came in is broken.
    #[error("failed to unpack `{}`", path.display())]
    Write {
        /// The file, or the directory that all are unpacked into.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// The engine did not do what it was asked, or the connection to it broke.
    #[error("failed to {operation}")]
    Request {
        /// What was asked: "inspect image `x`".
        operation: String,
        /// The engine's HTTP status, if it answered.
        status: Option<u16>,
        /// What went wrong.
        source: Cause,
    },
}

impl DockerError {
    pub(super) fn request(operation: impl Into<String>, source: bollard::errors::Error) -> Self {
        let status = match &source {
            bollard::errors::Error::DockerResponseServerError { status_code, .. } => Some(*status_code),
            _ => None,
        };
        Self::Request { operation: operation.into(), status, source: source.into() }
    }

    /// Is there no engine to talk to?
    #[must_use]
    pub fn is_engine_absent(&self) -> bool {
        matches!(self, Self::EngineAbsent { .. } | Self::EndpointUnsupported { .. } | Self::EndpointUnreadable { .. })
    }

    /// Did the build itself fail (rather than the engine, or reading the context)?
    #[must_use]
    pub fn is_build_failure(&self) -> bool {
        matches!(self, Self::Build { .. })
    }

    /// Does the engine (or, after a pull, the registry) not have the image?
    #[must_use]
    pub fn is_image_absent(&self) -> bool {
        matches!(self, Self::Request { status: Some(404), .. })
            || self.says(&["an image does not exist locally", "tag does not exist", "no such image"])
            || matches!(self, Self::Pull { message, .. } if message.contains("manifest unknown") || message.contains("not found"))
    }

    /// Did the registry want (other) credentials? A fresh ECR token, which lives 12 hours, may help.
    #[must_use]
    pub fn is_unauthorized(&self) -> bool {
        self.says(&["no basic auth credentials", "unauthorized", "authentication required", "authorization token", "401 unauthorized"])
            && !self.says(&["not authorized to perform"])
    }

    /// Does the registry know the caller, and refuse?
    #[must_use]
    pub fn is_denied(&self) -> bool {
        self.says(&["denied", "403 forbidden", "not authorized to perform"]) && !self.is_unauthorized() && !self.is_repository_absent()
    }

    /// May the same push work a little later? Throttling, a registry's 5xx, a connection that broke.
    ///
    /// The engine itself retries a layer's 5xx for 50 s, but neither a 429 nor the manifest (seen with Engine 20.10).
    #[must_use]
    pub fn is_transient(&self) -> bool {
        const SIGNS: [&str; 14] = [
            "toomanyrequests",
            "too many requests",
            "rate exceeded",
            "unexpected http status: 5",
            "unexpected status code 5",
            "internal server error",
            "bad gateway",
            "service unavailable",
            "connection reset",
            "broken pipe",
            "tls handshake timeout",
            "i/o timeout",
            "client.timeout",
            "nothing was heard",
        ];
        match self {
            Self::PushStalled { .. } => true,
            // "EOF" is a word of Go's, and part of many another in lower case.
            Self::Push { message, .. } | Self::Pull { message, .. } => {
                message.ends_with("EOF") || message.contains(": EOF") || self.says(&SIGNS)
            }
            _ => false,
        }
    }

    /// Does the tag exist already, in a repository that lets no tag move?
    #[must_use]
    pub fn is_tag_immutable(&self) -> bool {
        self.says(&["immutable"])
    }

    /// Does the registry not have the repository?
    #[must_use]
    pub fn is_repository_absent(&self) -> bool {
        self.says(&["name unknown", "repository does not exist", "repository name not known"])
            || matches!(self, Self::Push { message, .. } | Self::Pull { message, .. } if message.contains("repository with name") && message.contains("does not exist"))
    }

    fn says(&self, signs: &[&str]) -> bool {
        let mut text = match self {
            Self::Push { message, .. } | Self::Pull { message, .. } | Self::Base { message, .. } | Self::Build { message, .. } => {
                message.clone()
            }
            _ => return false,
        };
        // Of a step that failed, the builder says its exit code, and the step itself why.
        if let Self::Build { tail, .. } = self {
            text.extend(tail.iter().rev().take(5).flat_map(|line| ["\n", line]));
        }
        let text = text.to_ascii_lowercase();
        signs.iter().any(|sign| text.contains(sign))
    }

    /// What a person can do about it, if anything is known to help.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        let text = match self {
            Self::EngineAbsent { source, .. } if io_kind(source.as_ref()) == Some(io::ErrorKind::PermissionDenied) => {
                "this user may not open the socket: add it to the group `docker`, or use a rootless engine"
            }
            Self::EngineAbsent { .. } => {
                "start it with `systemctl start docker` (or Docker Desktop, colima, `podman system service`), or set DOCKER_HOST"
            }
            Self::EndpointUnsupported { .. } => {
                "set DOCKER_HOST to a `unix://` socket, to `ssh://USER@HOST` or to a `tcp://` address; for TLS set DOCKER_TLS_VERIFY=1, and \
                 DOCKER_CERT_PATH to the directory of ca.pem, cert.pem and key.pem"
            }
            Self::EndpointUnreadable { .. } => "see `docker context ls`, and choose one with `docker context use` or DOCKER_CONTEXT",
            Self::NoDockerfile { .. } => "`dockerfile` is looked for from the root of the build context",
            Self::DockerfileOutside { .. } => "make the build context the directory that holds both, or move the Dockerfile into it",
            Self::Build { message, .. } if needs_buildkit(message) => {
                "this instruction needs BuildKit (as `RUN --mount`, `COPY --chmod` and `COPY --link` do), which the engine does not have, or \
                 which DOCKER_BUILDKIT=0 has turned off: use a Docker engine of 18.09 or later, or leave the flag out"
            }
            Self::Build { message, .. } if message.contains("does not match the specified platform") => {
                "the engine has the base image for another platform: pull it with `docker pull --platform`, or change `platform`"
            }
            Self::Build { message, .. } if message.contains("no such host") => "the engine cannot reach the base image's registry",
            Self::Base { .. } | Self::Pull { .. } | Self::Build { .. } if self.says(&["toomanyrequests", "rate limit"]) => {
                "the registry limits anonymous pulls: `docker login` to it, or use a copy of the base image (ECR's pull through cache)"
            }
            Self::Base { .. } if self.says(&["no such host", "connection refused", "i/o timeout", "nothing was heard"]) => {
                "the engine cannot reach the base image's registry, and has no copy of it: `docker pull` it where there is a network"
            }
            Self::Base { .. } => "correct the image's name or tag, or `docker login` to its registry if it is private",
            Self::Build { message, .. } if message.contains("image.secrets") => "name the secret under `image.secrets`",
            Self::Build { .. } if self.says(&["no space left on device"]) => {
                "the engine's disk is full: `docker system df` shows with what, `docker builder prune` frees the build cache"
            }
            Self::Build { .. } if self.says(&["exec format error"]) => {
                "a program of another architecture was run: build on such a machine, or install QEMU's binfmt handlers"
            }
            Self::Build { .. } if self.says(&["pull access denied", "manifest unknown", "not found: manifest"]) => {
                "correct the name or tag of the base image, or `docker login` to its registry if it is private"
            }
            Self::Push { .. } if self.is_tag_immutable() => "the repository's tags are immutable, and this one is taken by another image",
            Self::Push { .. } if self.is_repository_absent() => "create the repository first: a push does not make one in ECR",
            Self::Push { .. } | Self::Pull { .. } if self.says(&["connection refused", "no such host"]) => {
                "the engine cannot reach the registry"
            }
            Self::Push { .. } | Self::Pull { .. } if self.says(&["server gave http response to https client"]) => {
                "the registry speaks without TLS: name it in the engine's `insecure-registries` (Podman: `registries.conf`)"
            }
            Self::Push { .. } if self.is_denied() => {
                "pushing needs ecr:InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload, BatchCheckLayerAvailability and PutImage"
            }
            Self::Pull { .. } if self.is_denied() || self.is_unauthorized() => {
                "pulling needs ecr:BatchGetImage and GetDownloadUrlForLayer on the repository, and GetAuthorizationToken"
            }
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// The classic builder names `BuildKit` for the flags that it knows of, and calls the others unknown.
fn needs_buildkit(message: &str) -> bool {
    message.contains("requires BuildKit") || message.contains("Unknown flag:") || message.contains("unknown flag:")
}

fn io_kind(error: &(dyn Error + 'static)) -> Option<io::ErrorKind> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io.kind());
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(message: &str) -> DockerError {
        DockerError::Push { repository: "r".into(), tag: "t".into(), message: message.into() }
    }

    /// The texts are Engine 20.10's and ECR's own.
    #[test]
    fn a_push_error_is_told_apart_by_its_text() {
        for text in [
            "no basic auth credentials",
            "unauthorized: authentication required",
            "denied: Your authorization token has expired. Reauthenticate and try again.",
        ] {
            let error = push(text);
            assert!(error.is_unauthorized() && !error.is_denied() && !error.is_transient(), "{text}");
        }
        for text in [
            "toomanyrequests: Rate exceeded",
            "received unexpected HTTP status: 500 Internal Server Error",
            "Put \"https://x/v2/\": EOF",
            "read tcp 10.0.0.1:1->10.0.0.2:443: read: connection reset by peer",
            "net/http: TLS handshake timeout",
        ] {
            let error = push(text);
            assert!(error.is_transient() && !error.is_unauthorized() && !error.is_denied(), "{text}");
        }
        let denied = push("denied: User: arn:aws:iam::1:user/x is not authorized to perform: ecr:InitiateLayerUpload on resource: y");
        assert!(denied.is_denied() && !denied.is_unauthorized() && !denied.is_transient());
        let absent = push("name unknown: The repository with name 'x' does not exist in the registry with id '1'");
        assert!(absent.is_repository_absent() && !absent.is_denied() && !absent.is_image_absent());
        let taken = push(
            "tag invalid: The image tag 'v1' already exists in the 'x' repository and cannot be overwritten because the tag is immutable.",
        );
        assert!(taken.is_tag_immutable() && !taken.is_transient());
        assert!(push("An image does not exist locally with the tag: x").is_image_absent());
    }

    #[test]
    fn a_flag_that_the_classic_builder_lacks_is_explained() {
        let message = "the --mount option requires BuildKit. Refer to https://docs.docker.com/go/buildkit/ to learn how".to_owned();
        let error = DockerError::Build { step: None, message, tail: Vec::new() };
        assert!(error.hint().unwrap().contains("18.09"));
        assert!(error.is_build_failure() && !error.is_engine_absent());
    }
}
