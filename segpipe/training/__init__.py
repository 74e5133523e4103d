"""Training by Lightning: one task for each stage, the unfreezing plan, the schedule, and the fit."""
