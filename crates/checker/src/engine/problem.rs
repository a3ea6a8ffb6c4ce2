//! The operations of one part of a history, as the engines see them.

use crate::history::{History, Moment, OpId, Outcome};
use crate::model::Model;

/// An operation's place in its [`Problem`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Place(pub(crate) u32);

impl Place {
    pub(crate) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One operation: what, and between which moments it must take effect. One that never returned may also never take
/// effect.
#[derive(Debug)]
pub(crate) struct Call<'h, M: Model> {
    pub(crate) id: OpId,
    pub(crate) input: &'h M::Input,
    pub(crate) output: Option<&'h M::Output>,
    pub(crate) call: Moment,
    pub(crate) ret: Moment,
}

impl<M: Model> Clone for Call<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<M: Model> Copy for Call<'_, M> {}

impl<M: Model> Call<'_, M> {
    pub(crate) fn is_open(&self) -> bool {
        self.ret == Moment::NEVER
    }
}

/// The operations of one part, by the moment of their call.
pub(crate) struct Problem<'h, M: Model> {
    pub(crate) calls: Vec<Call<'h, M>>,
}

impl<'h, M: Model> Problem<'h, M> {
    /// Those operations of a history that may have happened.
    pub(crate) fn of(
        history: &'h History<M::Input, M::Output>,
        ids: impl Iterator<Item = OpId>,
    ) -> Self {
        let calls = ids.map(|id| (id, history.operation(id)));
        let calls = calls.filter(|(_, operation)| operation.outcome != Outcome::Refused).map(
            |(id, operation)| Call {
                id,
                input: &operation.input,
                output: operation.outcome.output(),
                call: operation.call,
                ret: operation.ret,
            },
        );
        Self { calls: calls.collect() }
    }

    pub(crate) fn call(&self, place: Place) -> &Call<'h, M> {
        &self.calls[place.index()]
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + use<M> {
        (0..u32::try_from(self.calls.len()).expect("histories have fewer than 2^32 operations"))
            .map(Place)
    }

    /// The prefix that ends right before a moment: operations called by then. Those that had not returned may not have
    /// happened by then; if they have, it was with the result that they returned later.
    pub(crate) fn before(&self, end: Moment) -> Self {
        let called = self.calls.iter().take_while(|call| call.call < end);
        let calls = called
            .map(|call| if call.ret < end { *call } else { Call { ret: Moment::NEVER, ..*call } });
        Self { calls: calls.collect() }
    }

    /// As if little were known: of all operations that are not kept it is only known that they were asked for: they
    /// may have happened at any time, before they were called even, or never. What is
    /// contradictory even so is a contradiction among the kept ones.
    ///
    /// Those that cannot `help` to explain the kept ones, if that is known, are left out.
    pub(crate) fn relaxed(&self, keep: &[bool], help: Option<&[bool]>) -> Self {
        let useful = |i: usize| help.is_none_or(|help| help[i]);
        let calls = self.calls.iter().zip(keep).enumerate();
        let calls = calls.filter(|(i, (_, keep))| **keep || useful(*i)).map(|(_, both)| both);
        let relaxed = calls.map(|(call, keep)| {
            let at_any_time =
                Call { output: None, call: Moment::BEGIN, ret: Moment::NEVER, ..*call };
            if *keep { *call } else { at_any_time }
        });
        Self { calls: relaxed.collect() }
    }
}
