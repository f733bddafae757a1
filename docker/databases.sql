-- Run once, on an empty volume. A role and a database each: neither service can read the other's.
\getenv mlflow_password MLFLOW_DB_PASSWORD
\getenv vigie_password VIGIE_DB_PASSWORD
CREATE ROLE mlflow LOGIN PASSWORD :'mlflow_password';
CREATE ROLE vigie LOGIN PASSWORD :'vigie_password';
CREATE DATABASE mlflow OWNER mlflow;
CREATE DATABASE vigie OWNER vigie;
REVOKE ALL ON DATABASE mlflow, vigie, postgres FROM PUBLIC;
