export const heading = "Harbour shop: sold out is gone";
