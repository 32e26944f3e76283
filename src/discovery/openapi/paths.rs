//! Paths of routes as OpenAPI writes them.

/// A path template and its parameters.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) path: String,
    pub(super) parameters: Vec<Parameter>,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parameter {
    pub(super) name: String,
    /// Whether it stands for all that is left of the path.
    pub(super) rest: bool,
}

impl Template {
    /// `:name` and `{name}` stand for a segment, `*`, `*name` and `{*name}` for all that is left. Anything else in a
    /// segment is the segment.
    pub(super) fn of(path: &str) -> Self {
        let mut template = Self { path: String::with_capacity(path.len()), parameters: Vec::new() };
        for segment in path.split('/').skip(1) {
            template.path.push('/');
            match parameter(segment) {
                Some((name, rest)) => {
                    let name = template.unused(name);
                    template.path.push('{');
                    template.path.push_str(&name);
                    template.path.push('}');
                    template.parameters.push(Parameter { name, rest });
                }
                // A brace that is no parameter would be read as one.
                None => template.path.push_str(&segment.replace('{', "%7B").replace('}', "%7D")),
            }
        }
        template
    }

    /// The path with every parameter nameless: OpenAPI holds two paths that differ in names alone for the same.
    pub(super) fn shape(&self) -> String {
        let mut shape = String::with_capacity(self.path.len());
        for segment in self.path.split('/').skip(1) {
            shape.push('/');
            shape.push_str(if segment.starts_with('{') { "{}" } else { segment });
        }
        shape
    }

    fn unused(&self, name: &str) -> String {
        let name = if name.is_empty() { "rest" } else { name };
        let taken = |name: &str| self.parameters.iter().any(|parameter| parameter.name == name);
        if !taken(name) {
            return name.to_owned();
        }
        let numbered = (2..).map(|number: usize| format!("{name}{number}")).find(|name| !taken(name));
        numbered.unwrap_or_else(|| name.to_owned())
    }
}

fn parameter(segment: &str) -> Option<(&str, bool)> {
    let inner = segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
    let (name, rest) = if let Some(inner) = inner {
        inner.strip_prefix('*').map_or((inner, false), |name| (name, true))
    } else if let Some(name) = segment.strip_prefix(':') {
        (name, false)
    } else {
        (segment.strip_prefix('*')?, true)
    };
    let named = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    (named && (rest || !name.is_empty())).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(path: &str) -> (String, Vec<(String, bool)>) {
        let template = Template::of(path);
        let parameters = template.parameters.into_iter().map(|parameter| (parameter.name, parameter.rest));
        (template.path, parameters.collect())
    }

    #[test]
    fn every_way_to_write_a_parameter() {
        for (path, template, parameters) in [
            ("/v1/items/:id", "/v1/items/{id}", [("id", false)].as_slice()),
            ("/v1/items/{id}", "/v1/items/{id}", &[("id", false)]),
            ("/v1/:id/to/:id", "/v1/{id}/to/{id2}", &[("id", false), ("id2", false)]),
            ("/files/*", "/files/{rest}", &[("rest", true)]),
            ("/files/*path", "/files/{path}", &[("path", true)]),
            ("/files/{*path}", "/files/{path}", &[("path", true)]),
            ("/models/gemini:generate", "/models/gemini:generate", &[]),
            ("/a/:", "/a/:", &[]),
            ("/a/{}", "/a/%7B%7D", &[]),
            ("/a/x{b}", "/a/x%7Bb%7D", &[]),
            ("/", "/", &[]),
        ] {
            let parameters = parameters.iter().map(|(name, rest)| ((*name).to_owned(), *rest)).collect();
            assert_eq!(of(path), (template.to_owned(), parameters), "{path}");
        }
    }

    #[test]
    fn names_of_parameters_make_no_other_path() {
        assert_eq!(Template::of("/a/:b/c").shape(), Template::of("/a/{x}/c").shape());
        assert_ne!(Template::of("/a/:b/c").shape(), Template::of("/a/b/c").shape());
    }
}
