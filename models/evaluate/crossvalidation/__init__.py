"""Cross-validation: training on all folds but one and scoring that one, for each."""
