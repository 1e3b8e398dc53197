//! What an event brought: one output nearly always, which then takes no allocation on any step of its way back.

use std::iter::Chain;
use std::ops::Deref;
use std::{option, vec};

/// The outputs of one event, in order.
#[derive(Clone, Debug)]
pub enum Outputs<T> {
    /// Just one.
    One(T),
    /// None, or several.
    Many(Vec<T>),
}

impl<T> Outputs<T> {
    /// `count` of them, one after another, until one cannot be had.
    pub fn try_collect<E>(count: u64, mut next: impl FnMut() -> Result<T, E>) -> Result<Self, E> {
        match count {
            1 => next().map(Self::One),
            _ => (0..count).map(|_| next()).collect::<Result<_, _>>().map(Self::Many),
        }
    }

    /// A look at each of them.
    pub fn each(&self) -> Outputs<&T> {
        match self {
            Self::One(output) => Outputs::One(output),
            Self::Many(outputs) => Outputs::Many(outputs.iter().collect()),
        }
    }

    /// Each of them changed, in order.
    pub fn map<U>(self, mut change: impl FnMut(T) -> U) -> Outputs<U> {
        match self {
            Self::One(output) => Outputs::One(change(output)),
            Self::Many(outputs) => Outputs::Many(outputs.into_iter().map(change).collect()),
        }
    }
}

impl<T> Default for Outputs<T> {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl<T> Deref for Outputs<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        match self {
            Self::One(output) => std::slice::from_ref(output),
            Self::Many(outputs) => outputs,
        }
    }
}

impl<T> FromIterator<T> for Outputs<T> {
    fn from_iter<I: IntoIterator<Item = T>>(outputs: I) -> Self {
        let mut outputs = outputs.into_iter();
        match (outputs.next(), outputs.next()) {
            (Some(only), None) => Self::One(only),
            (first, second) => Self::Many(first.into_iter().chain(second).chain(outputs).collect()),
        }
    }
}

impl<T> From<Vec<T>> for Outputs<T> {
    fn from(outputs: Vec<T>) -> Self {
        Self::Many(outputs)
    }
}

impl<T> IntoIterator for Outputs<T> {
    type Item = T;
    type IntoIter = Chain<option::IntoIter<T>, vec::IntoIter<T>>;

    fn into_iter(self) -> Self::IntoIter {
        match self {
            Self::One(output) => Some(output).into_iter().chain(Vec::new()),
            Self::Many(outputs) => None.into_iter().chain(outputs),
        }
    }
}

impl<'a, T> IntoIterator for &'a Outputs<T> {
    type Item = &'a T;
    type IntoIter = std::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<T: PartialEq> PartialEq for Outputs<T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for Outputs<T> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_outputs_comes_out_as_it_went_in() {
        for count in 0..4 {
            let outputs: Outputs<u32> = (0..count).collect();
            assert_eq!(*outputs, *(0..count).collect::<Vec<_>>());
            assert_eq!(outputs, Outputs::from((0..count).collect::<Vec<_>>()));
            assert_eq!(matches!(outputs, Outputs::One(_)), count == 1);
            let mut next = 0..;
            assert_eq!(Outputs::try_collect(count.into(), || next.next().ok_or(())), Ok(outputs.clone()));
            assert_eq!(*outputs.each(), *outputs.iter().collect::<Vec<_>>());
            assert_eq!(*outputs.clone().map(|number| number + 1), *(1..=count).collect::<Vec<_>>());
            assert!(outputs.into_iter().eq(0..count));
        }
    }
}
