//! A container in which one command after the other is run, as a build does.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

use bollard::Docker;
use bollard::container::LogOutput;
use bollard::exec::{StartExecOptions, StartExecResults};
use bollard::models::{ContainerCreateBody, ExecConfig, HostConfig};
use bollard::query_parameters::{CreateContainerOptions, InspectContainerOptions, RemoveContainerOptions, StartContainerOptions};
use futures_util::StreamExt as _;

use super::engine::Engine;
use super::error::DockerError;
use super::login::Logins;
use super::pull::pull;

/// What a container is made of.
#[derive(Debug, Clone, Default)]
pub struct MachineOptions {
    /// The image; it is pulled if the engine does not have it.
    pub image: String,
    /// Directories of the engine's machine that it sees, and where.
    pub mounts: Vec<(PathBuf, PathBuf)>,
    /// Does it get all rights, so that an engine can run inside?
    pub privileged: bool,
    /// Where its commands start.
    pub directory: PathBuf,
}

/// A running container. Dropped, it is removed with all that runs in it.
pub struct Machine {
    docker: Docker,
    image: String,
    id: String,
    directory: String,
    there: bool,
}

impl Machine {
    /// Starts a container that waits; its image's entry point and command are not run.
    ///
    /// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerCreate>
    ///
    /// # Errors
    /// [`DockerError::Pull`]; the image has no `sh`; or the engine fails.
    pub async fn start(engine: &Engine, options: &MachineOptions) -> Result<Self, DockerError> {
        let image = &options.image;
        let bind = |(from, to): &(PathBuf, PathBuf)| format!("{}:{}", from.display(), to.display());
        let config = ContainerCreateBody {
            image: Some(image.clone()),
            entrypoint: Some(vec!["sh".to_owned(), "-c".to_owned()]),
            cmd: Some(vec!["trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done".to_owned()]),
            working_dir: Some(options.directory.display().to_string()),
            host_config: Some(HostConfig {
                binds: Some(options.mounts.iter().map(bind).collect()),
                privileged: Some(options.privileged),
                init: Some(true),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        };
        let create = async || {
            let created = engine.docker.create_container(None::<CreateContainerOptions>, config.clone()).await;
            created.map_err(|error| DockerError::request(format!("create a container of `{image}`"), error))
        };
        let created = match create().await {
            Err(error) if error.is_image_absent() => {
                let login = Logins::of_this_user().of_image(image).await?;
                pull(engine, image, None, login.as_ref()).await?;
                create().await?
            }
            created => created?,
        };
        let directory = options.directory.display().to_string();
        let machine = Self { docker: engine.docker.clone(), image: image.clone(), id: created.id, directory, there: true };
        let started = machine.docker.start_container(&machine.id, None::<StartContainerOptions>).await;
        match started {
            Ok(()) => Ok(machine),
            Err(error) => {
                let failed = DockerError::request(format!("start a container of `{image}`"), error);
                machine.remove().await;
                Err(failed)
            }
        }
    }

    /// The variables that the image sets.
    ///
    /// # Errors
    /// The engine fails.
    pub async fn environment(&self) -> Result<BTreeMap<String, String>, DockerError> {
        let inspected = self.docker.inspect_container(&self.id, None::<InspectContainerOptions>).await;
        let inspected = inspected.map_err(|error| DockerError::request(format!("inspect a container of `{}`", self.image), error))?;
        let entries = inspected.config.and_then(|config| config.env).unwrap_or_default();
        Ok(entries.iter().filter_map(|entry| entry.split_once('=')).map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// Runs a program to its end and gives every line of its output, of which both kinds keep their order, to `on_line`; the exit code.
    ///
    /// Dropped before its end, the program runs on: remove the container to end it.
    /// <https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Exec>
    ///
    /// # Errors
    /// The engine fails, or the container has ended.
    pub async fn run(
        &self,
        arguments: &[String],
        user: Option<&str>,
        environment: &BTreeMap<OsString, OsString>,
        mut on_line: impl FnMut(&str),
    ) -> Result<i32, DockerError> {
        let failed = |error| DockerError::request(format!("run a command in a container of `{}`", self.image), error);
        // One pipe for both outputs: the engine's two streams would lose their order.
        let mut command = vec!["sh".to_owned(), "-c".to_owned(), "exec \"$@\" 2>&1".to_owned(), "sh".to_owned()];
        command.extend_from_slice(arguments);
        let entry = |(name, value): (&OsString, &OsString)| format!("{}={}", name.to_string_lossy(), value.to_string_lossy());
        let config = ExecConfig {
            cmd: Some(command),
            user: user.map(str::to_owned),
            env: Some(environment.iter().map(entry).collect()),
            working_dir: Some(self.directory.clone()),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            ..ExecConfig::default()
        };
        let exec = self.docker.create_exec(&self.id, config).await.map_err(failed)?;
        let started = self.docker.start_exec(&exec.id, None::<StartExecOptions>).await.map_err(failed)?;
        let StartExecResults::Attached { mut output, .. } = started else { return Ok(0) };
        let mut rest = Vec::new();
        let mut give = |bytes: &[u8], rest: &mut Vec<u8>| {
            rest.extend_from_slice(bytes);
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                on_line(String::from_utf8_lossy(&line[..end]).trim_end_matches('\r'));
            }
        };
        // Something in the background may hold the stream open after the program's end.
        loop {
            let piece = tokio::time::timeout(std::time::Duration::from_millis(200), output.next()).await;
            match piece {
                Ok(Some(Ok(LogOutput::StdOut { message } | LogOutput::StdErr { message } | LogOutput::Console { message }))) => {
                    give(&message, &mut rest);
                }
                Ok(Some(Ok(LogOutput::StdIn { .. }))) => {}
                Ok(Some(Err(error))) => return Err(failed(error)),
                Ok(None) => break,
                Err(_) => {
                    let inspected = self.docker.inspect_exec(&exec.id).await.map_err(failed)?;
                    if inspected.running == Some(false) {
                        break;
                    }
                }
            }
        }
        if !rest.is_empty() {
            give(b"\n", &mut rest);
        }
        // The stream can end a moment before the engine knows the code.
        loop {
            let inspected = self.docker.inspect_exec(&exec.id).await.map_err(failed)?;
            if inspected.running != Some(true)
                && let Some(code) = inspected.exit_code
            {
                return Ok(i32::try_from(code).unwrap_or(-1));
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }

    /// Removes the container with all that runs in it.
    pub async fn remove(mut self) {
        self.there = false;
        // Whoever has removed it before us has done what was to be done.
        remove(&self.docker, &self.id).await;
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let (true, Ok(runtime)) = (self.there, tokio::runtime::Handle::try_current()) {
            let (docker, id) = (self.docker.clone(), std::mem::take(&mut self.id));
            runtime.spawn(async move { remove(&docker, &id).await });
        }
    }
}

async fn remove(docker: &Docker, id: &str) {
    let options = RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
    docker.remove_container(id, Some(options)).await.ok();
}
