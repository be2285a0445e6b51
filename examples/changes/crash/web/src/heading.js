export const heading = "Harbour shop: with more hands";
