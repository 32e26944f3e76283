//! The laws of a contract by name, and how a broken one is reported.

/// What was found, where it is not what the law says.
pub(super) type Checked<T = ()> = Result<T, String>;

/// What a law needs beside time.
#[derive(Clone, Copy)]
pub(super) enum Needs {
    Store,
    /// A store with room for this many.
    Bounded(usize),
}

/// Names the laws of one suite, each with its sentence and the check of it. `BoxFuture` and `Lab` are
/// those of the suite.
macro_rules! laws {
    (
        of $doc:literal;
        broken_by $subject:literal;
        $($name:ident $text:literal $check:path $(, $capacity:literal)?;)*
    ) => {
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Law {
            $(#[doc = $text] $name,)*
        }

        impl Law {
            /// All of them, in the order in which they are checked.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            #[allow(dead_code, reason = "only stores have room")]
            pub(super) fn needs(self) -> $crate::conformance::laws::Needs {
                use $crate::conformance::laws::Needs;
                match self {
                    $(Self::$name => {
                        let needs = Needs::Store;
                        $(let needs = { let _ = needs; Needs::Bounded($capacity) };)?
                        needs
                    })*
                }
            }

            pub(super) fn check(self, lab: &Lab) -> BoxFuture<'_, $crate::conformance::laws::Checked> {
                match self {
                    $(Self::$name => Box::pin($check(lab)),)*
                }
            }
        }

        impl std::fmt::Display for Law {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$name => $text,)*
                })
            }
        }

        /// A law that does not hold, and how that showed.
        #[derive(Clone, Debug)]
        pub struct Violation {
            law: Law,
            found: String,
        }

        impl Violation {
            pub(super) fn new(law: Law, found: String) -> Self {
                Self { law, found }
            }

            /// Which law.
            pub fn law(&self) -> Law {
                self.law
            }
        }

        impl std::fmt::Display for Violation {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{:?}: {}\n    {}", self.law, self.law, self.found)
            }
        }

        impl std::error::Error for Violation {}

        /// The laws that do not hold, at least one.
        #[derive(Clone, Debug)]
        pub struct Violations(Vec<Violation>);

        impl Violations {
            pub(super) fn new(violations: Vec<Violation>) -> Self {
                Self(violations)
            }

            /// Each of them.
            pub fn iter(&self) -> impl Iterator<Item = &Violation> {
                self.0.iter()
            }
        }

        impl std::fmt::Display for Violations {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, "{} breaks {} of {} laws", $subject, self.0.len(), Law::ALL.len())?;
                self.0.iter().try_for_each(|violation| write!(f, "\n{violation}"))
            }
        }

        impl std::error::Error for Violations {}
    };
}

/// `run` and `assert` of a suite: `$found` is what the check of `$law` has found; it may `continue` where the suite does
/// not have what the law needs. `Law`, `Violation` and `Violations` are those of its module.
macro_rules! runs {
    ($suite:ident, $law:ident => $found:expr; $($note:literal)?) => {
        /// Checks every law and lists those that do not hold.
        ///
        $(#[doc = $note] #[doc = ""])?
        /// # Errors
        /// [`Violations`], in order of [`Law`].
        pub async fn run(&self) -> Result<(), Violations> {
            let $suite = self;
            let mut violations = Vec::new();
            for $law in Law::ALL {
                if let Err(found) = $found {
                    violations.push(Violation::new(*$law, found));
                }
            }
            if violations.is_empty() { Ok(()) } else { Err(Violations::new(violations)) }
        }

        /// [`run`](Self::run), for a test.
        ///
        /// # Panics
        /// When a law does not hold.
        #[allow(clippy::panic)] // It is what a test asks for.
        pub async fn assert(&self) {
            if let Err(violations) = self.run().await {
                panic!("{violations}");
            }
        }
    };
}

/// The suite of a kind of store. `Lab`, `Law` and `BoxFuture` are those of its module.
macro_rules! suite {
    ($store:ident; $doc:literal; new $new:literal; bounded $bounded:literal; starting_at $starting_at:literal;) => {
        type Make = Box<dyn Fn() -> BoxFuture<'static, std::sync::Arc<dyn $store>> + Send + Sync>;

        #[doc = $doc]
        pub struct Suite {
            make: Make,
            bounded: Option<Make>,
            start: $crate::protocol::Timestamp,
        }

        impl Suite {
            #[doc = $new]
            pub fn new<F, Fut, S>(make: F) -> Self
            where
                F: Fn() -> Fut + Send + Sync + 'static,
                Fut: Future<Output = S> + Send + 'static,
                S: $store,
            {
                use $crate::Clock as _;
                Self { make: boxed(make), bounded: None, start: $crate::SystemClock.now() }
            }

            #[doc = $bounded]
            #[must_use]
            pub fn bounded<F, Fut, S>(mut self, make: F) -> Self
            where
                F: Fn() -> Fut + Send + Sync + 'static,
                Fut: Future<Output = S> + Send + 'static,
                S: $store,
            {
                self.bounded = Some(boxed(make));
                self
            }

            #[doc = $starting_at]
            #[must_use]
            pub fn starting_at(mut self, start: $crate::protocol::Timestamp) -> Self {
                self.start = start;
                self
            }

            $crate::conformance::laws::runs! {
                suite, law => {
                    use $crate::conformance::laws::Needs;
                    let store = match (law.needs(), &suite.bounded) {
                        (Needs::Store, _) => (suite.make)().await,
                        (Needs::Bounded(_), Some(bounded)) => bounded().await,
                        (Needs::Bounded(_), None) => continue,
                    };
                    law.check(&Lab::new(store, suite.start)).await
                };
            }
        }

        fn boxed<F, Fut, S>(make: F) -> Make
        where
            F: Fn() -> Fut + Send + Sync + 'static,
            Fut: Future<Output = S> + Send + 'static,
            S: $store,
        {
            Box::new(move || {
                let store = make();
                Box::pin(async move { std::sync::Arc::new(store.await) as std::sync::Arc<dyn $store> })
            })
        }

        impl std::fmt::Debug for Suite {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct("Suite").field("start", &self.start).finish_non_exhaustive()
            }
        }
    };
}

pub(super) use laws;
pub(super) use runs;
pub(super) use suite;
