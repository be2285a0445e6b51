//! What is stored in another form than it was built.

use crate::shop::Shop;

#[tokio::test]
async fn what_cloudfront_would_not_compress_is_stored_compressed() {
    let shop = Shop::site("site-packed").await;
    let text = "all work and no play makes Jack a dull boy\n".repeat(250_000);
    shop.scene.write("dist/app.wasm", &text);
    shop.configure("prebuilt: true", "prebuilt: true\n    precompress: gzip");
    shop.release();
    let head = shop.head("app.wasm").await.unwrap();
    assert_eq!((head.content_encoding(), head.content_type()), (Some("gzip"), Some("application/wasm")));
    assert!(head.content_length().unwrap() < 100_000 && shop.head("index.html").await.unwrap().content_encoding().is_none());
    // Neither a checkout without what was compressed before, nor one that looks at the bucket itself.
    std::fs::remove_dir_all(shop.scene.project().join(".windlass")).unwrap();
    for look in [&["release"][..], &["release", "--audit"]] {
        shop.run(look).expect(0);
        assert_eq!(shop.proxy.written(), [""; 0], "{look:?}");
    }
    shop.scene.write("dist/app.wasm", text.to_uppercase());
    shop.release();
    assert_eq!((shop.written(), shop.invalidated()), (vec!["s3:CopyObject app.wasm".to_owned()], vec!["/app.wasm".to_owned()]));
    shop.configure("precompress: gzip", "precompress: br").release();
    assert_eq!(shop.head("app.wasm").await.unwrap().content_encoding(), Some("br"));
    shop.configure("\n    precompress: br", "").release();
    assert_eq!(shop.body("app.wasm").await.unwrap(), text.to_uppercase());
    assert_eq!(shop.head("app.wasm").await.unwrap().content_encoding(), None);
}
