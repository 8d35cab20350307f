"""The Integrated Safety Approach: resumable stages of one run folder."""
