//! Functions over encrypted slots, generic over the evaluator.
