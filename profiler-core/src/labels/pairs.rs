//! Labels as the application gives them.

/// Labels: keys and values, of which a later one replaces an earlier one of the same key.
///
/// A key or value of more than 256 bytes is cut; empty ones are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "labels do nothing until they are put in force"]
pub struct Labels {
    pairs: Vec<(String, String)>,
}

impl Labels {
    /// Returns no labels.
    pub const fn new() -> Self {
        Self { pairs: Vec::new() }
    }

    /// Adds a label.
    pub fn with(mut self, key: impl Into<String>, value: impl ToString) -> Self {
        self.pairs.push((key.into(), value.to_string()));
        self
    }
}

/// What [`with_labels`](crate::with_labels) takes: [`Labels`], or an array, slice or vector of pairs of
/// texts.
pub trait LabelPairs {
    /// Returns the pairs, in the order that they are put in force.
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone;
}

impl LabelPairs for Labels {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.pairs.pairs()
    }
}

impl<K: AsRef<str>, V: AsRef<str>> LabelPairs for [(K, V)] {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.iter().map(|(key, value)| (key.as_ref(), value.as_ref()))
    }
}

impl<K: AsRef<str>, V: AsRef<str>, const N: usize> LabelPairs for [(K, V); N] {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.as_slice().pairs()
    }
}

impl<K: AsRef<str>, V: AsRef<str>> LabelPairs for Vec<(K, V)> {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.as_slice().pairs()
    }
}

impl<L: LabelPairs + ?Sized> LabelPairs for &L {
    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        (**self).pairs()
    }
}

impl<K: Into<String>, V: Into<String>, const N: usize> From<[(K, V); N]> for Labels {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        Self { pairs: pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect() }
    }
}
