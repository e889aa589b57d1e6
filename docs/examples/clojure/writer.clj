;; Places orders, each with its event, for the relay to carry to Kafka.
(ns writer
  (:require [clojure.data.json :as json]
            [clojure.java.jdbc :as jdbc]))

(defn place-order
  "Commits the order and its event, or neither."
  [db customer total-cents]
  (jdbc/with-db-transaction [tx db]
    (let [[{:keys [id]}] (jdbc/query tx ["insert into orders (customer, total_cents) values (?, ?) returning id"
                                         customer total-cents])]
      (jdbc/execute! tx ["insert into outbox (aggregate_type, aggregate_id, event_type, payload)
                          values ('order', ?, 'OrderPlaced', ?::jsonb)"
                         (str id)
                         (json/write-str {:order_id id :customer customer :total_cents total-cents})]))))

(let [[n] *command-line-args*
      customers (cycle ["ada" "ben" "cyd"])]
  (jdbc/with-db-connection [db {:connection-uri (System/getenv "DATABASE_URL")}]
    (doseq [[i customer] (map-indexed vector (take (parse-long n) customers))]
      (place-order db customer (* 100 (inc i))))))
