"""What is measured, a file for each group: `NAME`, and `measure`, which fills the figures of a stand."""
