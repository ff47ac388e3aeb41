//! Block-scaled matrices: which scale governs which element, quantize and dequantize
