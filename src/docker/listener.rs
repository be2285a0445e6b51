//! Who listens to a build.

/// What happens in a build, as it happens. A function that takes lines is one that hears everything as lines.
pub trait Listener: Send {
    /// A line about the build as a whole.
    fn line(&mut self, line: &str);

    /// A step of the Dockerfile begins: `[2/4] RUN pip install …`.
    fn began(&mut self, _step: &str) {}

    /// A line that a step has printed.
    fn output(&mut self, _step: &str, line: &str) {
        self.line(line);
    }

    /// So many bytes of something in a step are there, of so many, if that is known.
    fn amount(&mut self, _step: &str, _done: u64, _total: u64) {}

    /// A step has ended: `cached`, `failed`, or how long it took.
    fn ended(&mut self, step: &str, how: &str) {
        self.line(&format!("{step}: {how}"));
    }
}

impl<F: FnMut(&str) + Send> Listener for F {
    fn line(&mut self, line: &str) {
        self(line);
    }
}
